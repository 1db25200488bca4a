"""A night has one verdict a version; checking again replaces it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy.orm import Session

from halfsigma import UsageError
from registry import checks
from registry.checks import NewCheck, record_checks
from registry.lines import create_line
from registry.tables import Line

NIGHT = date(2026, 11, 23)
AT = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


def test_checking_again_replaces_the_verdict(session: Session, line: Line) -> None:
    record_checks(session, [NewCheck(line.id, 1, NIGHT, "stable", {"n": 90})], at=AT)
    record_checks(session, [NewCheck(line.id, 1, NIGHT, "drift", {"n": 100})], at=AT + timedelta(hours=1))
    (check,) = checks.list_checks(session, line)
    assert (check.verdict, check.document, check.checked_at) == ("drift", {"n": 100}, AT + timedelta(hours=1))


def test_a_document_is_kept_with_undefined_figures_as_null(session: Session, line: Line) -> None:
    document = {
        "shift_sd": np.float64(0.5),
        "shift_ci": (np.float64(-0.25), float("inf")),
        "ks": {"statistic": 0.1, "p": float("nan")},
        "n": np.int64(3),
        "changed_on": NIGHT,
        "flags": np.array([True, False]),
    }
    record_checks(session, [NewCheck(line.id, 1, NIGHT, "insufficient", document)])
    session.expire_all()
    check = checks.get_check(session, line, 1, NIGHT)
    assert check is not None
    assert check.document == {
        "shift_sd": 0.5,
        "shift_ci": [-0.25, None],
        "ks": {"statistic": 0.1, "p": None},
        "n": 3,
        "changed_on": "2026-11-23",
        "flags": [True, False],
    }
    assert list(check.document) == list(document)  # in the order in which it was written


def test_a_verdict_that_does_not_exist_is_refused(session: Session, line: Line) -> None:
    with pytest.raises(UsageError, match="verdict 'fine', expected one of insufficient, stable"):
        record_checks(session, [NewCheck(line.id, 1, NIGHT, "fine", {})])


def test_checks_are_found_by_version_and_night(session: Session, line: Line) -> None:
    for version, days in ((1, 0), (1, 1), (2, 1), (2, 2)):
        record_checks(session, [NewCheck(line.id, version, NIGHT + timedelta(days=days), "stable", {})])
    found = checks.list_checks(session, line, version=2)
    assert [check.night for check in found] == [NIGHT + timedelta(days=1), NIGHT + timedelta(days=2)]
    assert len(checks.list_checks(session, line, until=NIGHT + timedelta(days=1))) == 3
    assert checks.get_check(session, line, 2, NIGHT) is None


def test_the_latest_check_of_every_line_is_its_last_night(session: Session, line: Line) -> None:
    other = create_line(session, "press", detector="patchcore")
    silent = create_line(session, "silent", detector="patchcore")
    for days, verdict in ((1, "drift"), (0, "stable")):
        record_checks(session, [NewCheck(line.id, 1, NIGHT + timedelta(days=days), verdict, {})])
    record_checks(session, [NewCheck(other.id, 1, NIGHT, "warning", {})])
    latest = checks.latest_checks(session)
    assert {line_id: check.verdict for line_id, check in latest.items()} == {
        line.id: "drift",
        other.id: "warning",
    }
    assert silent.id not in latest
