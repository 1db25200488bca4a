"""Where two people are asked for, one is not enough."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from halfsigma import RegistryError
from registry import approval, audit, lines
from registry.deployment import Deployment
from registry.tables import Line
from tests.registry.deployments import fit, follow, promote, roll_back
from tests.registry.fake_store import FakeStore


def _approve(session: Session, line: Line, number: int, person: str) -> list[str]:
    champion = lines.aliases(session, line).get("champion")
    return approval.approve(session, line, number, replaces=champion, person=person)


def test_two_people_are_two_names_and_one_name_twice_is_one(session: Session, line: Line, deployed: FakeStore) -> None:
    fit(session, line, deployed, 2)
    lines.update_line(session, line, counted={"approvals": 2})
    assert [_approve(session, line, 2, person) for person in ("ann", "ann", "bea")] == [
        ["ann"],
        ["ann"],
        ["ann", "bea"],
    ]
    assert approval.is_missing(session, line, 2, replaces=1) is None
    assert "nobody approved version 3" in str(approval.is_missing(session, line, 3, replaces=1))


def test_an_approval_is_about_one_champion_and_ends_with_it(session: Session, line: Line, deployed: FakeStore) -> None:
    for number in (2, 3):
        fit(session, line, deployed, number)
    _approve(session, line, 3, "ann")
    promote(session, line, deployed, 2)
    assert _approve(session, line, 3, "bea") == ["bea"]
    roll_back(session, line, deployed)
    assert _approve(session, line, 3, "cem") == ["cem"]  # the champion that Ann spoke of was away in between


def test_one_persons_move_in_mlflow_is_refused_where_two_are_asked_for(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    fit(session, line, deployed, 2)
    lines.update_line(session, line, counted={"approvals": 2})
    _approve(session, line, 2, "ann")
    deployed.pointing["champion"] = 2
    assert follow(session, line, deployed, tmp_path).champion == 1
    (entry,) = audit.history(session, line, actions=["champion_put_back"])
    assert entry.document["reason"] == "the line asks for 2 people, and ann approved version 2 so far"
    _approve(session, line, 2, "bea")
    deployed.pointing["champion"] = 2
    assert follow(session, line, deployed, tmp_path).champion == 2


def test_who_points_previous_at_a_version_has_not_deployed_it(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    fit(session, line, deployed, 2)
    lines.update_line(session, line, counted={"approvals": 2})
    deployed.pointing["previous"] = 2
    follow(session, line, deployed, tmp_path)
    with pytest.raises(RegistryError, match="version 2 of line 'tiles' never was champion.*asks for 2 people"):
        roll_back(session, line, deployed)
    deployed.pointing["champion"] = 2
    assert follow(session, line, deployed, tmp_path).champion == 1


def test_one_person_is_enough_to_roll_back_in_mlflow(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    fit(session, line, deployed, 2)
    promote(session, line, deployed, 2)
    lines.update_line(session, line, counted={"approvals": 2})
    deployed.pointing["champion"] = 1
    assert follow(session, line, deployed, tmp_path) == Deployment(1, None, None)


def test_one_name_in_other_letters_is_one_person(session: Session, line: Line, deployed: FakeStore) -> None:
    fit(session, line, deployed, 2)
    lines.update_line(session, line, counted={"approvals": 2})
    assert [_approve(session, line, 2, person) for person in ("Ann", "ann")] == [["Ann"], ["Ann"]]
