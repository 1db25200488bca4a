"""What a person called a defect is kept, is never fitted on, and is tried by kind, whenever it was labelled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest

import detectors.families.patchcore
from detectors.artifact import load_version, save_version
from detectors.version import DetectorVersion
from flows.challenger import run_step
from flows.curating import cleared_document
from flows.labelling import label_images
from flows.settings import Settings
from flows.workspace import Workspace
from registry import deployment, images, lines, promotion, retrains
from registry.database import open_database
from tests.registry.fake_store import FakeStore

N_GOODS = 40


@pytest.fixture
def workspace(tmp_path: Path, version: DetectorVersion) -> Iterator[Workspace]:
    save_version(version, tmp_path / "version")
    store = FakeStore(tmp_path / "version")
    store.add(1)
    settings = Settings(tmp_path, f"sqlite:///{tmp_path / 'halfsigma.db'}", "memory")
    with open_database(settings.database_url) as database:
        with database.session() as session:
            line = lines.create_line(session, "pad", detector="patchcore", fpr_budget=0.05)
            deployment.mirror_version(session, line, 1, store.folder, store.tags("pad", 1))
            promotion.deploy_first(session, line, store, 1)  # type: ignore[arg-type]
        yield Workspace(settings, database, store)  # type: ignore[arg-type]


def _see(workspace: Workspace, folder: Path) -> dict[str, Path]:
    seen = {images.file_sha256(path): path for path in sorted(folder.iterdir())}
    with workspace.database.session() as session:
        images.remember(session, lines.get_line(session, "pad"), {sha: str(path) for sha, path in seen.items()})
    return seen


def test_a_retrain_neither_learns_from_a_defect_labelled_at_the_last_minute_nor_forgets_its_kind(
    workspace: Workspace, tmp_path: Path, write_night: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors.families.patchcore, "MIN_FOLDS", 2)
    monkeypatch.setattr(detectors.families.patchcore, "MAX_FOLDS", 2)
    goods = _see(workspace, write_night(tmp_path / "goods", N_GOODS, seed=11))
    dents = _see(workspace, write_night(tmp_path / "dents", 4, seed=12, defect=True))
    label_images(workspace, "pad", list(dents), as_label="defect", kind="dent")
    with workspace.database.session() as session:
        line = lines.update_line(session, lines.get_line(session, "pad"), counted={"min_labels": 6})
        row = retrains.request(session, line, night=date(2026, 11, 23), base_version=1, reason="drift")
        summary = {"n_candidates": N_GOODS, "n_chosen": N_GOODS, "left_out": {}}
        retrains.advance(session, row.id, start="requested", to="curated", document={"curation": summary})
    folder = workspace.work_folder(f"retrain-{row.id}")
    chosen = {sha256: str(path) for sha256, path in goods.items()}
    (folder / "curated.json").write_text(json.dumps(cleared_document(chosen)))
    late = next(iter(goods))
    label_images(workspace, "pad", [late], as_label="defect", kind="crack")
    shutil.rmtree(tmp_path / "dents")  # the golden set does not need the folders that it came from

    fitted = run_step(workspace, row.id)
    assert fitted.state == "fitted"
    for name in ("challenger", "twin"):
        assert late not in load_version(folder / name).provenance["fit_images_sha256"]  # type: ignore[operator]
    left_out = json.loads((folder / "curated.json").read_text())["left_out"]
    assert left_out[late] == "a person called it a defect"
    assert fitted.document["curation"]["n_chosen"] == N_GOODS - len(left_out)

    gates = {gate["name"]: gate for gate in run_step(workspace, row.id).document["gates"]}
    assert "2 kinds of labelled defects" in gates["golden_kinds"]["reason"]
    assert gates["golden_recall"]["reason"].split(" labelled defects")[0].endswith("of 5")
    assert (gates["labelled_defects"]["passed"], gates["labelled_defects"]["value"]) == (False, 5.0)
