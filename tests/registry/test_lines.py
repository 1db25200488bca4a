"""Lines, versions and aliases: once each, whatever is told twice."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy.orm import Session

from drift.reference import Reference
from halfsigma import AnotherVersion, UnknownLine, UnknownVersion, UsageError
from registry import lines
from registry.database import Database
from registry.lines import create_line, get_line, get_version, record_version, set_alias
from registry.tables import Line, Version

AT = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
REFERENCE = Reference(scores=np.array([1.0, 2.0, 4.0]), covariates={"noise": np.array([0.1, 0.2, 0.3])})


def version(session: Session, line: Line, number: int, **given: Any) -> Version:
    values = {
        "detector": "patchcore",
        "threshold": 4.5,
        "mean_ref": REFERENCE.mean,
        "sd_ref": REFERENCE.sd,
        "n_reference": REFERENCE.n,
        "reference": REFERENCE.to_json(),
        "origin": "fit",
        "at": AT,
    }
    return record_version(session, line, number, **{**values, **given})


@pytest.mark.parametrize("name", ["tiles", "press_12", "3-B", "a" * 64, "_", "-"])
def test_letters_digits_dashes_and_underscores_are_a_line_name(session: Session, name: str) -> None:
    assert create_line(session, name, detector="patchcore").name == name


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "a/b", "a:b", "a.b", "a\n", "Linie-Ä", "a%b", ".."])
def test_anything_else_is_no_line_name(session: Session, name: str) -> None:
    with pytest.raises(UsageError, match="expected letters, digits"):
        create_line(session, name, detector="patchcore")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"policy": "sometimes"}, "policy 'sometimes', expected one of auto, manual, shadow"),
        ({"time_zone": "Vienna"}, "time zone 'Vienna' is not known"),
        ({"time_zone": "../UTC"}, "is not known"),
        ({"fpr_budget": 1.0}, "expected a share above 0, at most 0.5"),
        ({"fpr_budget": float("nan")}, "expected a share above 0, at most 0.5"),
        ({"latency_budget_ms": 0.0}, "expected more than 0"),
        ({"latency_budget_ms": float("inf")}, "expected more than 0"),
    ],
)
def test_a_line_is_refused_when_a_value_is_not_of_the_form(session: Session, given: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        create_line(session, "tiles", detector="patchcore", **given)


def test_a_line_is_found_as_it_was_made(session: Session) -> None:
    create_line(session, "tiles", detector="padim", time_zone="Europe/Vienna", policy="shadow", fpr_budget=0.02, at=AT)
    session.expire_all()
    line = get_line(session, "tiles")
    assert (line.detector, line.time_zone, line.policy) == ("padim", "Europe/Vienna", "shadow")
    assert (line.fpr_budget, line.latency_budget_ms, line.created_at) == (0.02, None, AT)


def test_a_name_is_taken_once(session: Session, line: Line) -> None:
    with pytest.raises(UsageError, match="line 'tiles' exists already"):
        create_line(session, "tiles", detector="padim")
    assert get_line(session, "tiles").detector == "patchcore"


def test_an_unknown_line_lists_the_known_ones(session: Session) -> None:
    with pytest.raises(UnknownLine, match="there are no lines yet") as caught:
        get_line(session, "tiles")
    assert "halfsigma fit" in caught.value.hint
    for n in range(12):
        create_line(session, f"line{n:02d}", detector="patchcore")
    with pytest.raises(UnknownLine, match="known lines: line00, .*, line09 and 2 more"):
        get_line(session, "tiles")


def test_what_is_given_is_changed_and_the_rest_is_left(session: Session, line: Line) -> None:
    changed = lines.update_line(session, line, policy="manual", latency_budget_ms=20.0)
    assert (changed.policy, changed.latency_budget_ms, changed.detector) == ("manual", 20.0, "patchcore")
    with pytest.raises(UsageError):
        lines.update_line(session, line, policy="never")
    assert lines.update_line(session, line).policy == "manual"


def test_a_version_brings_its_reference_so_that_a_check_needs_no_mlflow(session: Session, line: Line) -> None:
    version(session, line, 1)
    session.expire_all()
    found = get_version(session, line, 1)
    reference = Reference.from_json(found.reference)
    assert reference.scores.tolist() == REFERENCE.scores.tolist()
    assert (found.mean_ref, found.sd_ref, found.threshold) == (REFERENCE.mean, REFERENCE.sd, 4.5)


def test_a_version_never_changes(session: Session, line: Line) -> None:
    version(session, line, 1)
    again = version(session, line, 1, origin="retrain")
    assert (again.threshold, again.origin) == (4.5, "fit")
    assert [found.number for found in lines.list_versions(session, line)] == [1]


def test_a_number_that_means_another_version_is_refused(session: Session, line: Line) -> None:
    version(session, line, 1)
    with pytest.raises(AnotherVersion, match="MLflow's version 1 of line 'tiles' is another") as raised:
        version(session, line, 1, threshold=9.9)
    assert "restore it" in raised.value.hint
    assert get_version(session, line, 1).threshold == 4.5


def test_an_origin_that_does_not_exist_is_refused(session: Session, line: Line) -> None:
    with pytest.raises(UsageError, match="origin 'guess', expected one of fit, retrain, foreign"):
        version(session, line, 1, origin="guess")


def test_without_a_number_the_champion_is_meant(session: Session, line: Line) -> None:
    with pytest.raises(UnknownVersion, match="line 'tiles' has no champion yet"):
        get_version(session, line)
    for number in (1, 2):
        version(session, line, number)
    set_alias(session, line, "champion", 2)
    assert get_version(session, line).number == 2
    with pytest.raises(UnknownVersion, match="has no version 3; known versions: 1, 2"):
        get_version(session, line, 3)


def test_an_alias_tells_news_once(session: Session, line: Line) -> None:
    assert set_alias(session, line, "champion", 1, at=AT)
    assert not set_alias(session, line, "champion", 1, at=AT + timedelta(days=1))
    assert set_alias(session, line, "champion", 2)
    assert set_alias(session, line, "previous", 1)
    assert lines.aliases(session, line) == {"champion": 2, "previous": 1}
    assert lines.all_aliases(session) == {line.id: {"champion": 2, "previous": 1}}
    assert set_alias(session, line, "previous", None)
    assert not set_alias(session, line, "previous", None)
    assert lines.aliases(session, line) == {"champion": 2}
    with pytest.raises(UsageError, match="alias 'best', expected one of champion, challenger, previous"):
        set_alias(session, line, "best", 1)


def test_an_alias_that_did_not_move_does_not_queue_behind_a_writer(
    database: Database, line: Line, session: Session
) -> None:
    set_alias(session, line, "champion", 1)
    session.commit()
    with database.session() as writer, database.session() as reader:
        create_line(writer, "press", detector="patchcore")  # holds the write lock of SQLite until it ends
        assert not set_alias(reader, line, "champion", 1)
        assert not set_alias(reader, line, "previous", None)


def test_of_many_that_mirror_the_same_move_at_once_one_is_told_the_news(
    database: Database, line: Line, session: Session
) -> None:
    set_alias(session, line, "champion", 1)
    session.commit()
    news: list[bool] = []

    def mirror() -> None:
        with database.session() as mine:
            news.append(set_alias(mine, line, "champion", 2))

    threads = [threading.Thread(target=mirror) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(news) == [False] * 4 + [True]


@pytest.mark.parametrize(
    "text", ["2026-13-01", "2026-02-30", "24.11.2026", "2026-1-1", "20261124", "today", "", " 2026-11-24"]
)
def test_a_night_is_a_date_in_iso_form_or_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected YYYY-MM-DD"):
        lines.parse_night(text)


@pytest.mark.parametrize(
    ("night", "zone", "start"),
    [
        (date(2026, 11, 24), "UTC", datetime(2026, 11, 24, tzinfo=UTC)),
        (date(2026, 7, 1), "Europe/Vienna", datetime(2026, 6, 30, 22, tzinfo=UTC)),  # summer time
        (date(2026, 11, 24), "Asia/Kolkata", datetime(2026, 11, 23, 18, 30, tzinfo=UTC)),
        (date(2026, 11, 24), "America/Los_Angeles", datetime(2026, 11, 24, 8, tzinfo=UTC)),
    ],
)
def test_a_night_begins_at_midnight_of_the_lines_own_zone(night: date, zone: str, start: datetime) -> None:
    assert lines.night_start(night, zone) == start
    assert lines.night_of(start, zone) == night
    assert lines.night_of(start - timedelta(microseconds=1), zone) == night - timedelta(days=1)


def test_a_night_that_begins_before_the_calendar_is_refused() -> None:
    with pytest.raises(UsageError, match="end of the calendar"):
        lines.night_start(date(1, 1, 1), "Europe/Vienna")


def test_a_naive_instant_has_no_night() -> None:
    with pytest.raises(UsageError, match="has no time zone"):
        lines.night_of(datetime(2026, 11, 24), "UTC")


@pytest.mark.parametrize("name", lines.COUNTED)
def test_a_counted_setting_keeps_within_its_limits(session: Session, line: Line, name: str) -> None:
    least, most = lines.COUNTED[name]
    for value in (least, most):
        assert getattr(lines.update_line(session, line, counted={name: value}), name) == value
    for value in (least - 1, most + 1):
        with pytest.raises(UsageError, match=f"expected {least} to {most}"):
            lines.update_line(session, line, counted={name: value})
    assert getattr(lines.update_line(session, line, counted={name: None}), name) == most
