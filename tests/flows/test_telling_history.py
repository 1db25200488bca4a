"""What ``halfsigma history`` shows to people can be given back to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from flows.history import history_for_people, line_history
from registry import lines
from tests.flows.simulated_plant import FIRST, LINE, Plant, simulated_plant

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\S+")


@pytest.fixture(params=["Europe/Vienna", "America/Chicago", "UTC"])
def plant(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    with simulated_plant(tmp_path, monkeypatch) as made:
        with made.workspace.database.session() as session:
            lines.update_line(session, lines.get_line(session, LINE), time_zone=request.param)
        made.photograph(FIRST)
        made.promote(made.add(0.0))
        yield made


def test_an_instant_that_is_shown_tells_of_the_state_just_after_it(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    document = line_history(plant.workspace, LINE)
    history_for_people(document)
    in_words, in_table = INSTANT.findall(document["explanation"])[1], INSTANT.findall(capsys.readouterr().out)[-1]
    exact = datetime.fromisoformat(document["deployments"][-1]["at"])
    for shown in (in_words, in_table):
        assert line_history(plant.workspace, LINE, at=shown)["version"] == 2
        assert timedelta(0) <= datetime.fromisoformat(shown) - exact < timedelta(seconds=1)
    before = (exact - timedelta(microseconds=1)).isoformat()
    assert line_history(plant.workspace, LINE, at=before)["version"] == 1


def test_the_instant_of_a_judgement_is_one_at_which_the_image_was_judged(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    sha256 = f"{FIRST.toordinal() * 1000:064x}"
    document = line_history(plant.workspace, LINE, sha256=sha256)
    history_for_people(document)
    judged_at = INSTANT.findall(capsys.readouterr().out)[-1]
    assert INSTANT.findall(document["explanation"])[0].rstrip(":") == judged_at
    assert line_history(plant.workspace, LINE, sha256=sha256, at=judged_at)["judgement"]["version"] == 1
