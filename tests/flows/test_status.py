"""A status of many lines asks MLflow once, and one line's fault hides no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.status import status
from halfsigma import StoreError, UnknownVersion
from registry.database import Database, open_database
from registry.lines import create_line, record_version, set_alias

NAMES = ("bare", "mill", "press")


class Mlflow:
    """It has the champions that the database has."""

    def __init__(self) -> None:
        self.pointing: dict[str, dict[str, int]] = {"bare": {}, "mill": {"champion": 1}, "press": {"champion": 1}}
        self.asked: list[tuple[str, ...]] = []
        self.is_away = False

    def aliases(self, line: str) -> dict[str, int]:
        return self.aliases_of([line])[line]

    def aliases_of(self, lines: Sequence[str]) -> dict[str, dict[str, int]]:
        self.asked.append(tuple(lines))
        if self.is_away:
            raise StoreError("MLflow is away")
        return {name: dict(self.pointing[name]) for name in lines}

    def fetch(self, line: str, number: int, *, cache: Path) -> Path:
        raise UnknownVersion(f"no version {number}")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    found = open_database(f"sqlite:///{tmp_path / 'halfsigma.db'}")
    with found.session() as session:
        for name in NAMES:
            line = create_line(session, name, detector="padim")
            if name != "bare":
                record_version(
                    session, line, 1, detector="padim", threshold=1.0, mean_ref=0.0, sd_ref=1.0, n_reference=2,
                    reference={"scores": [0.0, 1.0]}, origin="fit",
                )  # fmt: skip
                set_alias(session, line, "champion", 1)
    return found


@pytest.mark.parametrize("is_away", [False, True])
def test_mlflow_is_asked_once_and_what_it_said_last_is_shown_while_it_is_away(
    database: Database, tmp_path: Path, is_away: bool
) -> None:
    store = Mlflow()
    store.is_away = is_away
    workspace = SimpleNamespace(database=database, store=store, cache=tmp_path)
    shown = status(workspace, None)  # type: ignore[arg-type]
    assert [(each["line"], each["champion"], each["mlflow"]) for each in shown[1:]] == [
        (name, 1, "away" if is_away else "followed") for name in NAMES[1:]
    ]
    assert store.asked == [NAMES]


def test_a_line_without_a_usable_champion_hides_no_other(database: Database, tmp_path: Path) -> None:
    store = Mlflow()
    store.pointing["bare"] = {"champion": 9}
    workspace = SimpleNamespace(database=database, store=store, cache=tmp_path)
    found = {each["line"]: each["mlflow"] for each in status(workspace, None)}  # type: ignore[arg-type]
    assert found["bare"] == "MLflow's champion of line 'bare' cannot be used: no version 9"
    assert found["press"] == "followed"
