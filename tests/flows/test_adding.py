"""Adding cleared images to a deployed version: the same states and gates as any retrain, and what is refused."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from detectors import calibration
from flows import running
from flows.adding import request_growth
from flows.challenger import next_step, run_retrain, run_step
from flows.fitting import fit_line
from flows.labelling import label_images
from flows.settings import Settings
from flows.workspace import Workspace, open_workspace
from halfsigma import IllegalTransition, TooFewImages, UsageError
from registry import images, lines, retrains
from registry.tables import Retrain

FAMILIES = ("padim", "patchcore")
N_ADDED = 24


@pytest.fixture(scope="module")
def added_folder(tmp_path_factory: pytest.TempPathFactory, write_night: Callable[..., Path]) -> Path:
    return write_night(tmp_path_factory.mktemp("adding") / "cleared", N_ADDED, seed=41, gain=1.15)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, good_folder: Path) -> Iterator[Workspace]:
    """One line a family, fitted on a folder that is gone afterwards: only the vault's copies are left."""
    home = tmp_path_factory.mktemp("adding") / "home"
    with open_workspace(Settings.from_environment({"HALFSIGMA_HOME": str(home)})) as opened:
        goods = Path(shutil.copytree(good_folder, home / "goods"))
        with pytest.MonkeyPatch.context() as quick:
            for name in ("MIN_FOLDS", "MAX_FOLDS"):
                quick.setattr(calibration, name, 4)
            for family in FAMILIES:
                fit_line(opened, family, goods, detector=family, seed=0)
        shutil.rmtree(goods)
        yield opened


def _run(workspace: Workspace, retrain: Retrain) -> tuple[Retrain, list[str]]:
    states = [retrain.state]
    while next_step(retrain.state) is not None:
        retrain = run_step(workspace, retrain.id)
        states.append(retrain.state)
    return retrain, states


def test_a_defect_among_the_images_is_refused_before_anything_is_written(
    workspace: Workspace, write_night: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_night(tmp_path / "mixed", 22, seed=42)
    with workspace.database.session() as session:
        line = lines.get_line(session, "padim")
        first = folder / "part0.png"
        images.remember(session, line, {images.file_sha256(first): str(first)})
    label_images(workspace, "padim", [str(first)], as_label="defect")
    with pytest.raises(UsageError, match="1 of these images are labelled as defects, first part0.png"):
        request_growth(workspace, "padim", folder)
    with workspace.database.session() as session:
        assert retrains.list_retrains(session, lines.get_line(session, "padim")) == []


def test_images_that_the_version_knows_are_not_counted(workspace: Workspace, good_folder: Path) -> None:
    with pytest.raises(TooFewImages, match="0 images of 40 files are readable and new to version 1"):
        request_growth(workspace, "patchcore", good_folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_added_images_go_through_every_state_and_the_new_version_knows_old_and_new(
    family: str, workspace: Workspace, added_folder: Path, good_folder: Path
) -> None:
    asked = request_growth(workspace, family, added_folder)
    assert asked.reason == f"a person added {N_ADDED} good images"
    assert request_growth(workspace, family, added_folder).id == asked.id  # asking again starts no second one
    retrain, states = _run(workspace, asked)
    assert states == ["requested", "curated", "fitted", "gated", "registered", "promoted"], retrain.document["gates"]
    gates = {gate["name"]: gate for gate in retrain.document["gates"]}
    assert {"fresh_shift_sd", "latency_ms", "round_trip"} <= set(gates)
    assert retrain.new_version is not None
    champion, grown = (workspace.load(family, number) for number in (1, retrain.new_version))
    n_known = len(list(good_folder.iterdir()))
    assert grown.provenance["n_fit"] == n_known + N_ADDED
    assert grown.reference_scores.size == n_known + N_ADDED
    assert set(champion.provenance["fit_images_sha256"]) < set(grown.provenance["fit_images_sha256"])  # type: ignore[call-overload]
    with workspace.database.session() as session:
        good = images.labelled(session, lines.get_line(session, family), "good")
        assert len(good) == N_ADDED
        assert all(Path(str(image.kept_path)).is_file() for image in good)


def test_a_version_that_was_retrained_today_is_not_retrained_again(
    workspace: Workspace, added_folder: Path, write_night: Callable[..., Path], tmp_path: Path
) -> None:
    with workspace.database.session() as session:
        line = lines.get_line(session, "patchcore")
        row = retrains.list_retrains(session, line)[0]
        retrains.request(session, line, night=row.night, base_version=2, reason="of the night")
        again = retrains.list_retrains(session, line)[-1]
    more = write_night(tmp_path / "more", 21, seed=43)
    with pytest.raises(IllegalTransition, match=f"retrain {again.id} of version 2 is requested"):
        request_growth(workspace, "patchcore", more)


def test_without_a_prefect_server_a_person_waits_for_none_and_asking_again_changes_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with workspace.database.session() as session:
        row = retrains.list_retrains(session, lines.get_line(session, "padim"))[0]
    monkeypatch.setenv("HALFSIGMA_HOME", str(workspace.settings.home))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setitem(sys.modules, "flows.retrain", None)  # the flow cannot be imported
    again = running.retrain_now("padim", night=row.night, base_version=row.base_version, reason="again")
    assert (again["id"], again["state"], again["new_version"]) == (row.id, "promoted", row.new_version)


def test_with_a_prefect_server_the_retrain_is_a_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def run_flow(name: str, **parameters: Any) -> dict[str, Any]:
        asked.append((name, parameters))
        return {}

    monkeypatch.setattr(running, "run_flow", run_flow)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    running.retrain_now("padim", night=date(2026, 8, 14), base_version=3, reason="a person asked for it")
    parameters = {
        "line_name": "padim",
        "night": date(2026, 8, 14),
        "base_version": 3,
        "reason": "a person asked for it",
    }
    assert asked == [("retrain", parameters)]


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError("a bug"), "failed"), (IllegalTransition("another process is at it"), "requested")]
)
def test_a_step_that_breaks_ends_its_retrain_and_one_that_another_process_took_does_not(
    error: Exception, state: str, workspace: Workspace
) -> None:
    def run(workspace: Workspace, retrain_id: int, step: str) -> Retrain:
        raise error

    with workspace.database.session() as session:
        last = retrains.list_retrains(session, lines.get_line(session, "padim"))[-1]
    assert last.new_version is not None or last.state == "failed"
    night = last.night + timedelta(days=1)
    outcome = run_retrain(workspace, "padim", night=night, base_version=2, reason="drift", run=run)
    assert outcome.state == state
    assert state == "requested" or outcome.reason == "step 'curate': unexpected ValueError: a bug"
