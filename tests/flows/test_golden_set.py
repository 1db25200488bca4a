"""What a person called a defect is kept, is never fitted on, and is tried by kind, whenever it was labelled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import pytest

import detectors.calibration
from detectors.artifact import load_version
from detectors.version import DetectorVersion
from flows import retrain_files
from flows.challenger import run_step
from flows.curating import cleared_document
from flows.labelling import label_images
from flows.workspace import Workspace
from registry import lines
from tests.flows.curated_retrain import LINE, curated, line_with, see

N_GOODS = 40


@pytest.fixture
def workspace(tmp_path: Path, version: DetectorVersion) -> Iterator[Workspace]:
    with line_with(version, tmp_path) as made:
        yield made


def test_a_retrain_neither_learns_from_a_defect_labelled_at_the_last_minute_nor_forgets_its_kind(
    workspace: Workspace, tmp_path: Path, write_night: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors.calibration, "MIN_FOLDS", 2)
    monkeypatch.setattr(detectors.calibration, "MAX_FOLDS", 2)
    goods = see(workspace, write_night(tmp_path / "goods", N_GOODS, seed=11))
    dents = see(workspace, write_night(tmp_path / "dents", 4, seed=12, defect=True))
    label_images(workspace, LINE, list(dents), as_label="defect", kind="dent")
    with workspace.database.session() as session:
        lines.update_line(session, lines.get_line(session, LINE), counted={"min_labels": 6})
    chosen = {sha256: str(path) for sha256, path in goods.items()}
    row = curated(workspace, date(2026, 11, 23), cleared_document(chosen))
    folder = retrain_files.folder_of(workspace, row)
    late = next(iter(goods))
    label_images(workspace, LINE, [late], as_label="defect", kind="crack")
    shutil.rmtree(tmp_path / "dents")  # the golden set does not need the folders that it came from

    fitted = run_step(workspace, row.id)
    assert fitted.state == "fitted"
    for name in ("challenger", "twin"):
        assert late not in load_version(folder / name).provenance["fit_images_sha256"]  # type: ignore[operator]
    left_out = json.loads(retrain_files.latest_curation(folder).read_text())["left_out"]
    assert left_out[late] == "a person called it a defect"
    assert fitted.document["curation"]["n_chosen"] == N_GOODS - len(left_out)

    gates = {gate["name"]: gate for gate in run_step(workspace, row.id).document["gates"]}
    assert "2 kinds of labelled defects" in gates["golden_kinds"]["reason"]
    assert gates["golden_recall"]["reason"].split(" labelled defects")[0].endswith("of 5")
    assert (gates["labelled_defects"]["passed"], gates["labelled_defects"]["value"]) == (False, 5.0)


def test_labelled_photographs_of_a_camera_that_the_line_had_before_end_no_retrain(
    workspace: Workspace, tmp_path: Path, write_night: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are of 16 bits, the line was fitted anew on 8."""
    monkeypatch.setattr(detectors.calibration, "MIN_FOLDS", 2)
    monkeypatch.setattr(detectors.calibration, "MAX_FOLDS", 2)
    goods = see(workspace, write_night(tmp_path / "goods", N_GOODS, seed=11))
    dents = write_night(tmp_path / "dents", 4, seed=12, defect=True)
    for path in list(dents.iterdir())[:3]:
        cv2.imwrite(str(path), cv2.imread(str(path)).astype(np.uint16) * 257)
    label_images(workspace, LINE, list(see(workspace, dents)), as_label="defect", kind="dent")
    row = curated(workspace, date(2026, 11, 23), cleared_document({sha: str(path) for sha, path in goods.items()}))
    run_step(workspace, row.id)
    tried = run_step(workspace, row.id)
    assert tried.state == "gated"
    gates = {gate["name"]: gate for gate in tried.document["gates"]}
    assert "of 1 labelled defects" in gates["golden_recall"]["reason"]
    assert "labelled_defects" not in gates
