from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from halfsigma import HalfsigmaError, StoreError, UnknownVersion
from registry import deployment, lines, promotion
from registry.champions import champions_of
from registry.database import Database
from registry.deployment import FOREIGN
from registry.lines import create_line, record_version, set_alias
from registry.new_version import NewVersion
from registry.store import MlflowStore
from registry.tables import Line
from tests.registry.fake_store import FakeStore

QUIET = ("mill", "press")
"""Lines whose alias nobody moved."""


class CountingStore(FakeStore):
    """One line in MLflow that changes, two that do not, and how often it was asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[tuple[str, ...]] = []

    def aliases(self, line: str) -> dict[str, int]:
        self.asked.append((line,))
        return super().aliases(line)

    def aliases_of(self, several: Sequence[str]) -> dict[str, dict[str, int]]:
        self.asked.append(tuple(several))
        self._reach()
        return {name: {"champion": 1} if name in QUIET else dict(self.pointing) for name in several}


@pytest.fixture
def store(saved: Path) -> CountingStore:
    return CountingStore(saved)


@pytest.fixture
def deployed(session: Session, line: Line, store: CountingStore) -> list[Line]:
    """Line ``tiles`` with versions 1, its champion, and 2; ``mill`` and ``press`` with a champion; one that is not ours."""
    for number in (1, 2):
        store.add(number)
        deployment.mirror_version(session, line, number, store.folder, store.tags(line.name, number))
    promotion.deploy_first(session, line, store, 1)  # type: ignore[arg-type]
    others = [create_line(session, name, detector="patchcore") for name in QUIET]
    others.append(create_line(session, "foreign", detector=FOREIGN))
    for other in others:
        record_version(
            session, other, 1, detector=other.detector, threshold=1.0, mean_ref=0.0, sd_ref=1.0, n_reference=2,
            reference={"scores": [0.0, 1.0]}, origin="foreign" if other.detector == FOREIGN else "fit",
        )  # fmt: skip
        set_alias(session, other, "champion", 1)
    session.commit()
    store.asked.clear()
    return [line, *others]


def _champions(
    database: Database, store: CountingStore, deployed: Sequence[Line], cache: Path
) -> dict[str, int | HalfsigmaError]:
    return champions_of(database, store, deployed, cache=cache)  # type: ignore[arg-type]


def test_mlflow_is_asked_once_for_all_lines_that_are_ours(
    database: Database, session: Session, store: CountingStore, deployed: list[Line], tmp_path: Path
) -> None:
    assert _champions(database, store, deployed, tmp_path) == {"tiles": 1, "mill": 1, "press": 1, "foreign": 1}
    assert store.asked == [("tiles", *QUIET)]


def test_a_champion_that_a_person_moved_is_followed_and_the_others_are_not_asked_again(
    database: Database, session: Session, store: CountingStore, deployed: list[Line], tmp_path: Path
) -> None:
    store.pointing["champion"] = 2
    assert _champions(database, store, deployed, tmp_path)["tiles"] == 2
    assert set(store.asked[1:]) == {("tiles",)}
    session.rollback()
    assert lines.aliases(session, deployed[0])["champion"] == 2


def test_while_mlflow_is_away_the_lines_go_on_with_what_it_said_last(
    database: Database, session: Session, store: CountingStore, deployed: list[Line], tmp_path: Path
) -> None:
    store.is_away = True
    assert _champions(database, store, deployed, tmp_path) == {"tiles": 1, "mill": 1, "press": 1, "foreign": 1}


def test_a_line_without_a_champion_is_told_as_such_and_costs_the_others_nothing(
    database: Database, session: Session, store: CountingStore, deployed: list[Line], tmp_path: Path
) -> None:
    new = create_line(session, "new", detector="patchcore")
    session.commit()
    store.pointing.clear()
    found = _champions(database, store, [new, deployed[1]], tmp_path)
    assert isinstance(found["new"], UnknownVersion)
    assert found["mill"] == 1
    store.is_away = True
    assert isinstance(_champions(database, store, [new], tmp_path)["new"], StoreError)


def test_many_lines_aliases_come_page_by_page(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.store._PAGE_MODELS", 2)
    store = MlflowStore(f"sqlite:///{tmp_path / 'mlflow.db'}", artifact_root=tmp_path / "artifacts")
    names = [f"line_{k}" for k in range(5)]
    for name in names[:4]:
        store.set_alias(name, "champion", store.register(name, NewVersion(saved, "fit")))
    assert store.aliases_of(names) == {name: {"champion": 1} for name in names[:4]} | {"line_4": {}}
    assert store.aliases_of(names[:1]) == {"line_0": {"champion": 1}}
    assert store.aliases_of([]) == {}
