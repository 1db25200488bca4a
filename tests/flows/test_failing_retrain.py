"""What ``halfsigma retrain`` says, and with which exit status, when its retrain failed or waits for a person."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import cli
from flows.challenger import Outcome, request_retrain
from flows.retrain_files import ADDED
from halfsigma import HalfsigmaError, StoreError, TooFewImages
from registry import outbox, retrains
from tests.flows.simulated_plant import FIRST, LINE, Plant, simulated_plant

AWAY = StoreError("the MLflow store failed: connection refused", hint="check MLFLOW_TRACKING_URI")
TOO_FEW = TooFewImages("12 fresh good images, expected at least 50", hint="ingest more of the night")


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with simulated_plant(tmp_path, monkeypatch) as made:
        for module in ("workspace", "running"):
            monkeypatch.setattr(f"flows.{module}.open_workspace", lambda settings: nullcontext(made.workspace))
        made.photograph(FIRST)
        yield made


def _grow(workspace: Any, line: str, folder: Path, **_: object) -> Any:
    document = {ADDED: {"ab" * 32: "a.png"}}
    return request_retrain(workspace, line, night=FIRST, base_version=1, reason="added", document=document)


@pytest.mark.parametrize("fault", [AWAY, ValueError("a bug")])
@pytest.mark.parametrize("options", [[], ["--add", "cleared"]])
def test_a_retrain_that_failed_is_an_error_that_says_why_and_what_to_do(
    plant: Plant,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: Exception,
    options: list[str],
) -> None:
    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr("flows.challenger._curate", fail)
    monkeypatch.setattr("flows.adding.request_growth", _grow)
    assert cli.main(["retrain", LINE, *options, "--json"]) == 1
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    hint = fault.hint if isinstance(fault, HalfsigmaError) else "run it again; if it stays, report it"
    assert error["message"].startswith("retrain 1 failed: ") and str(fault) in error["message"]
    assert error["hint"] == hint
    assert error["message"] in said.err and hint in said.err
    with plant.workspace.database.session() as session:
        assert retrains.get(session, 1).state == "failed"
        (alert,) = outbox.list_alerts(session)
    assert (alert.kind, alert.payload["hint"]) == ("retrain_failed", hint)

    assert cli.main(["retrain", LINE, *options]) == 1
    assert capsys.readouterr().out == ""


def test_a_retrain_that_waits_for_labels_is_no_error(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits = SimpleNamespace(waits="a person has to label the 20 most suspicious ones", to_look_at=[])
    night = SimpleNamespace(curation=waits, to_json=dict)
    monkeypatch.setattr("flows.challenger.curate_night", lambda *_, **__: night)
    monkeypatch.setattr("flows.challenger.summary_of", dict)
    assert cli.main(["retrain", LINE, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["state"] == "failed" and document["retrain"]["reason"].startswith(waits.waits)


def test_a_retrain_that_waits_for_images_is_no_error_and_says_what_it_needs(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_few(*_: object) -> None:
        raise TOO_FEW

    monkeypatch.setattr("flows.challenger._curate", too_few)
    assert cli.main(["retrain", LINE, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["state"], document["retrain"]["reason"]) == ("failed", TOO_FEW.message)
    assert document["retrain"]["failure"] is None
    with plant.workspace.database.session() as session:
        (alert,) = outbox.list_alerts(session)
    assert (alert.kind, alert.payload["hint"]) == ("retrain_failed", TOO_FEW.hint)


def test_a_retrain_that_is_asked_for_again_has_failed_no_more(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise AWAY

    with monkeypatch.context() as patch:
        patch.setattr("flows.challenger._curate", fail)
        assert cli.main(["retrain", LINE]) == 1
    monkeypatch.setattr("flows.running.run_retrain", lambda workspace, line, **asked: _rejected(plant))
    capsys.readouterr()
    assert cli.main(["retrain", LINE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["retrain"]["failure"] is None


def _rejected(plant: Plant) -> Outcome:
    row = request_retrain(plant.workspace, LINE, night=FIRST, base_version=1, reason="a person asked for it")
    with plant.workspace.database.session() as session:
        for to in ("curated", "fitted", "gated", "registered", "rejected"):
            row = retrains.advance(session, row.id, start=row.state, to=to)
    return Outcome.of(row)
