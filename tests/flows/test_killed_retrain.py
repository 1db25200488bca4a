"""A retrain that is killed, wherever it is killed, is brought to its end by running it again: once, and no more."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NIGHT = "2026-11-21"
POINTS = [
    "between the two fits",
    "before the step is written",
    "before the version is created",
    "before the version is mirrored",
    "after the champion's alias moved",
]


def _ask(file: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def told(
    fitted_home: tuple[Path, Any],
    commands: Callable[..., list[Any]],
    jobs: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, list[str], Any]:
    """Killed at every point in turn, each time after the one before; then the night is run as usual."""
    home = Path(shutil.copytree(fitted_home[0], tmp_path_factory.mktemp("killed") / "home"))
    commands(home, [("check", "pad", "--night", NIGHT, "--json")])
    states = []
    for point in POINTS:
        done = jobs(home, [{"steps": "pad", "night": NIGHT, "kill": point}])
        assert done.returncode == -signal.SIGKILL, (point, done.stdout, done.stderr)
        states.append(_ask(home / "halfsigma.db", "SELECT state FROM retrain")[0][0])
    return home, states, commands(home, [("nightly", "--night", NIGHT, "--json"), ("status", "pad", "--json")])


def test_a_step_that_was_killed_leaves_the_state_where_it_was(told: tuple[Path, list[str], Any]) -> None:
    assert told[1] == ["curated", "curated", "gated", "gated", "registered"]


def test_run_again_it_ends_promoted(told: tuple[Path, list[str], Any]) -> None:
    night, status = told[2]
    assert night.status == 0, night
    pad = next(each for each in night.document["lines"] if each["line"] == "pad")
    assert (pad["action"], pad["champion"], pad["retrain"]["state"]) == ("retrain", 2, "promoted")
    line = status.document["lines"][0]
    assert (line["champion"], line["previous"], line["challenger"]) == (2, 1, None)
    assert line["last_retrain"]["state"] == "promoted"


def test_there_is_one_retrain_one_new_version_and_one_promotion(told: tuple[Path, list[str], Any]) -> None:
    database = told[0] / "halfsigma.db"
    assert _ask(database, "SELECT state, base_version, new_version FROM retrain") == [("promoted", 1, 2)]
    assert _ask(database, "SELECT count(*) FROM audit WHERE action = 'promoted'") == [(1,)]
    assert _ask(database, "SELECT count(*) FROM alert WHERE kind = 'promoted'") == [(1,)]
    assert _ask(
        database, "SELECT number FROM version JOIN line ON line.id = line_id WHERE name = 'pad' ORDER BY 1"
    ) == [
        (1,),
        (2,),
    ]
    in_mlflow = _ask(
        told[0] / "mlflow.db", "SELECT version FROM model_versions WHERE name = 'halfsigma.pad' ORDER BY 1"
    )
    assert in_mlflow == [(1,), (2,)]
    aliases = _ask(
        told[0] / "mlflow.db", "SELECT alias, version FROM registered_model_aliases WHERE name = 'halfsigma.pad'"
    )
    assert sorted(aliases) == [("champion", 2), ("previous", 1)]
