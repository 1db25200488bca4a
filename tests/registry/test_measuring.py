"""A night measured from summaries of the nights before it is the night measured from all scores, whatever happened between."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date, datetime, timedelta
from datetime import time as clock
from hashlib import sha256
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from sqlalchemy.orm import Session

from drift.measurement import Measurement, measure
from drift.nights import Night
from drift.reference import Reference
from drift.settings import DriftSettings
from halfsigma import UnknownVersion
from registry import images
from registry.lines import record_version, set_alias
from registry.measuring import LineToMeasure, MeasuredLine, measure_line, measure_lines
from registry.scores import ScoreRow, log_scores, log_unreadable
from registry.summaries import keep_summaries, kept_summaries, summary_key
from registry.tables import Line
from registry.windows import windows

FIRST = date(2026, 11, 1)
N_REFERENCE = 80


@pytest.fixture
def reference() -> Reference:
    return Reference(np.random.default_rng(1).gamma(4.0, 1.0, N_REFERENCE))


@pytest.fixture
def watched(session: Session, line: Line, reference: Reference) -> LineToMeasure:
    record_version(
        session, line, 1, detector="patchcore", threshold=9.0, mean_ref=reference.mean, sd_ref=reference.sd,
        n_reference=reference.n, reference=reference.to_json(), origin="fit",
    )  # fmt: skip
    set_alias(session, line, "champion", 1)
    session.commit()
    return LineToMeasure(line.id, line.name, 1)


def row(night: date, number: int, score: float) -> ScoreRow:
    at = datetime.combine(night, clock(1), tzinfo=ZoneInfo("UTC")) + timedelta(seconds=number)
    return ScoreRow(sha256(f"{night}-{number}".encode()).hexdigest(), f"{number}.png", at, night, score)


def log(session: Session, line: Line, day: int, *, n: int = 50, first: int = 0, shift: float = 0.0) -> list[str]:
    night = FIRST + timedelta(day)
    scores = np.random.default_rng([day, first]).gamma(4.0, 1.0, n) + shift
    rows = [row(night, first + number, float(score)) for number, score in enumerate(scores)]
    log_scores(session, line, 1, rows)
    session.commit()
    return [each.sha256 for each in rows]


def check(session: Session, watched: LineToMeasure, day: int) -> MeasuredLine:
    """As a nightly check: measured, and the summaries kept."""
    found = measure_line(session, watched, FIRST + timedelta(day))
    keep_summaries(session, found.summarised)
    session.commit()
    return found


def from_all_scores(session: Session, line: Line, reference: Reference, day: int) -> Measurement:
    settings = DriftSettings()
    night = FIRST + timedelta(day)
    return measure(reference, windows(session, line.id, 1, until=night, n_nights=settings.history_nights))


def as_told(measurement: Measurement) -> Measurement:
    """Without what only a picture of every image says."""
    return replace(measurement, fault=None)


def test_the_second_check_reads_no_older_night_and_says_the_same(
    session: Session, line: Line, watched: LineToMeasure, reference: Reference
) -> None:
    for day in range(6):
        log(session, line, day, shift=0.4 * (day >= 4))
        check(session, watched, day)
    found = measure_line(session, watched, FIRST + timedelta(5))
    assert found.summarised == ()
    assert as_told(found.measurement) == as_told(from_all_scores(session, line, reference, 5))


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_logged_labelled_and_checked_in_between_a_check_is_that_of_all_scores(
    session: Session, line: Line, watched: LineToMeasure, reference: Reference, seed: int
) -> None:
    chance = random.Random(seed)
    logged: list[str] = []
    last, batch = -1, 0
    for _ in range(40):
        match chance.choice(["log", "log", "late", "label", "unreadable", "check"]):
            case "log":
                last += 1
                logged += log(session, line, last, n=chance.randint(1, 60), shift=chance.choice([0.0, 0.0, 0.6]))
            case "late" if last >= 0:
                batch += 1000
                logged += log(session, line, chance.randint(0, last), n=chance.randint(1, 9), first=batch)
            case "label" if logged:
                chosen = chance.choice(logged)
                images.remember(session, line, {chosen: f"/in/{chosen}.png"})
                images.label(session, line, [chosen], chance.choice(["good", "defect"]))
                session.commit()
            case "unreadable" if last >= 0:
                night = FIRST + timedelta(chance.randint(0, last))
                log_unreadable(session, line, night, {f"{chance.random()}.png": "truncated"})
                session.commit()
            case "check" if last >= 0:
                check(session, watched, chance.randint(0, last))
    found = check(session, watched, last).measurement
    assert as_told(found) == as_told(from_all_scores(session, line, reference, last))


def test_a_night_is_not_judged_by_a_challenger_that_scored_along(
    session: Session, line: Line, watched: LineToMeasure, reference: Reference
) -> None:
    for number in (2, 3):
        record_version(
            session, line, number, detector="patchcore", threshold=9.0, mean_ref=reference.mean, sd_ref=reference.sd,
            n_reference=reference.n, reference=reference.to_json(), origin="retrain", base_version=1,
        )  # fmt: skip
    log(session, line, 0)
    log_scores(session, line, 2, [replace(row(FIRST, k, 20.0), shadow=True) for k in range(50)])
    session.commit()
    later = replace(watched, champion=3)
    assert measure_line(session, later, FIRST).version == 1
    assert measure_line(session, later, FIRST, version=2).version == 2


def test_a_summary_of_scores_that_grew_while_they_were_read_is_not_kept(
    session: Session, line: Line, watched: LineToMeasure
) -> None:
    log(session, line, 0)
    measured = measure_line(session, watched, FIRST)
    log(session, line, 0, first=100, n=5)  # another process, between the reading and the keeping
    keep_summaries(session, measured.summarised)
    (kept,) = kept_summaries(session, line.id, 1, first=FIRST, until=FIRST).values()
    assert kept.key is None


def test_a_summary_comes_back_as_it_was(session: Session, line: Line, watched: LineToMeasure) -> None:
    log(session, line, 0)
    (summarised,) = check(session, watched, 0).summarised
    (kept,) = kept_summaries(session, line.id, 1, first=FIRST, until=FIRST).values()
    assert (kept.key, kept.night) == (summarised.key, summarised.summary)
    assert isinstance(kept.night, Night)


def test_a_summary_that_json_cannot_carry_is_made_anew_each_time(
    session: Session, line: Line, watched: LineToMeasure
) -> None:
    log(session, line, 0)
    (summarised,) = measure_line(session, watched, FIRST).summarised
    assert summarised.summary is not None
    keep_summaries(session, [replace(summarised, summary=replace(summarised.summary, estimate=float("inf")))])
    (kept,) = kept_summaries(session, line.id, 1, first=FIRST, until=FIRST).values()
    assert kept.key is None


def test_the_key_tells_which_defects_were_left_out() -> None:
    assert summary_key({"a", "b"}) == summary_key(["b", "a"])
    assert summary_key({"a"}) != summary_key(set())


def test_a_version_that_was_never_mirrored_costs_only_its_own_line(
    url: str, session: Session, line: Line, watched: LineToMeasure
) -> None:
    log(session, line, 0)
    lost = LineToMeasure(line.id, "lost", 7)
    session.rollback()
    broken, sound = measure_lines(url, [replace(lost, line_id=line.id + 1), watched], FIRST)
    assert isinstance(getattr(broken, "error", None), UnknownVersion)
    assert isinstance(sound, MeasuredLine) and sound.measurement.n == 50
