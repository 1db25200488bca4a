from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import pytest

from drift.reference import Reference
from drift.window import Window
from flows import measuring
from registry import measuring as measuring_one_process
from registry.columns import utc_now
from registry.database import Database, open_database
from registry.lines import create_line, record_version
from registry.measuring import LineToMeasure, MeasuredLine, Unmeasured
from registry.scores import ScoreRow, log_scores

NIGHT = date(2026, 11, 24)
LINES = 7


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[LineToMeasure]]:
    """A database of seven lines with a night each; the fifth has no version."""
    url = f"sqlite:///{tmp_path_factory.mktemp('wide')}/halfsigma.db"
    rng = np.random.default_rng(0)
    several = []
    with open_database(url) as database, database.session() as session:
        for k in range(LINES):
            line = create_line(session, f"line_{k}", detector="patchcore")
            reference = Reference(rng.gamma(4.0, 1.0, 60))
            if k != 4:
                record_version(
                    session, line, 1, detector="patchcore", threshold=9.0, mean_ref=reference.mean, sd_ref=reference.sd,
                    n_reference=reference.n, reference=reference.to_json(), origin="fit",
                )  # fmt: skip
            at = datetime(2026, 11, 24, 1, tzinfo=utc_now().tzinfo)
            log_scores(
                session,
                line,
                1,
                [
                    ScoreRow(f"{k}-{n}".ljust(64, "0"), f"{n}.png", at + timedelta(seconds=n), NIGHT, float(score))
                    for n, score in enumerate(rng.gamma(4.0, 1.0, 50 + k))
                ],
            )
            several.append(LineToMeasure(line.id, line.name, 1))
    return url, several


def _alike(first: MeasuredLine | Unmeasured, second: MeasuredLine | Unmeasured) -> bool:
    if isinstance(first, Unmeasured) or isinstance(second, Unmeasured):
        return type(first) is type(second) and first.name == second.name
    return (first.name, first.measurement) == (second.name, second.measurement)


def test_in_several_processes_lines_are_measured_as_in_one_and_in_their_order(
    wide: tuple[str, list[LineToMeasure]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, several = wide
    with Database(url) as database:
        alone = measuring.measure_all(database, several, NIGHT)
        monkeypatch.setattr(measuring, "HELPED_FROM", 2)
        monkeypatch.setattr(measuring, "CHUNK_LINES", 2)
        monkeypatch.setattr(measuring, "_cores", lambda: 3)
        together = measuring.measure_all(database, several, NIGHT)
    assert [each.name for each in alone] == [line.name for line in several]
    assert all(_alike(one, other) for one, other in zip(alone, together, strict=True))
    assert [each.name for each in alone if isinstance(each, Unmeasured)] == ["line_4"]
    assert [each.measurement.n for each in alone if isinstance(each, MeasuredLine)] == [50, 51, 52, 53, 55, 56]


def test_the_lines_of_a_process_that_died_are_measured_by_this_one(wide: tuple[str, list[LineToMeasure]]) -> None:
    url, several = wide
    dead: Future[list[measuring.Outcome]] = Future()
    dead.set_exception(BrokenProcessPool("killed"))
    found = measuring._result(dead, url, [replace(several[0], name="again")], NIGHT)
    assert [each.name for each in found] == ["again"]
    assert isinstance(found[0], MeasuredLine)


def test_few_lines_start_no_process(wide: tuple[str, list[LineToMeasure]], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pool(*_: object, **__: object) -> None:
        raise AssertionError("a process costs more than a few lines")

    url, several = wide
    monkeypatch.setattr(measuring, "ProcessPoolExecutor", no_pool)
    with Database(url) as database:
        assert len(measuring.measure_all(database, several, NIGHT)) == LINES


def test_scores_that_no_statistic_can_take_cost_their_own_line_its_night_and_no_other(
    wide: tuple[str, list[LineToMeasure]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, several = wide
    real = measuring_one_process.measure_tonight

    def overflows(base: object, nights: object, window: Window, **named: object) -> object:
        if window.n == 50:  # of the first line
            raise OverflowError(34, "Numerical result out of range")
        return real(base, nights, window, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(measuring_one_process, "measure_tonight", overflows)
    first, second, *_ = measuring_one_process.measure_lines(url, several, NIGHT)
    assert isinstance(first, Unmeasured)
    assert "cannot be measured: OverflowError" in first.error.message
    assert "halfsigma report" not in first.error.hint, "it makes the same check"
    assert isinstance(second, MeasuredLine)
