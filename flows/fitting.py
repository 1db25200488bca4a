"""Fit a line's detector on a folder of good images and register the version."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from detectors.artifact import MANIFEST, read_manifest, save_version
from detectors.backbones.backbone import BackboneSpec
from detectors.backbones.building import build_runtime
from detectors.backbones.neighbourhood import NEIGHBOURHOOD, is_texture, runtime_for
from detectors.backbones.resolution import FramePlan, measured_cost_ms, plan_frame
from detectors.families.names import family_named
from detectors.fit import MIN_FIT_IMAGES, GoodImages, fit_version, prepare, with_responses
from detectors.photographs.images import list_images
from detectors.protocol import Progress, no_progress
from detectors.version import DetectorVersion
from drift.reference import Reference
from flows import locks
from flows.known_defects import known_defects
from flows.workspace import Workspace
from halfsigma import TooFewImages
from registry import audit, deployment, images, lines, promotion
from registry.new_version import NewVersion
from registry.provenance import images_digest, running_code
from registry.tables import Line


@dataclass(frozen=True, slots=True)
class FittedLine:
    """A version as it was registered.

    Attributes:
        place: ``champion`` where it is deployed, ``challenger`` where it waits to be, ``registered`` where another challenger waits.
    """

    version: int
    place: Literal["champion", "challenger", "registered"]
    model: DetectorVersion
    goods: GoodImages
    reference: Reference
    seconds: float


def fit_line(
    workspace: Workspace,
    line_name: str,
    good_folder: Path,
    *,
    detector: str,
    seed: int,
    backbone: BackboneSpec = BackboneSpec(),  # noqa: B008  # frozen
    progress: Progress = no_progress,
) -> FittedLine:
    """Create the line if it is new, fit on ``good_folder``, register; the first version becomes champion.

    Nothing is registered unless all succeeds, and the same images with the same seed give the version that they gave
    before.

    Raises:
        UsageError: the name or the family is not what it should be.
        ImageError: the folder holds no image.
        TooFewImages: fewer distinct readable images than a fit needs, those that people labelled as defects not counted.
        ArtifactError: MLflow gave back other files than it was given.
        IllegalTransition: another process is fitting this line.
    """
    started = time.perf_counter()
    lines.check_line_name(line_name)
    family = family_named(detector)
    paths = list_images(good_folder)
    with workspace.database.session() as session:
        known = lines.find_line(session, line_name)
        if known is not None:
            deployment.refuse_foreign(known)
        fpr_budget = known.fpr_budget if known else lines.DEFAULT_FPR_BUDGET
        latency_budget_ms = known.latency_budget_ms if known else None
        defects = known_defects(session, known, ())
    usual = build_runtime(backbone, neighbourhood=NEIGHBOURHOOD)
    plan = plan_frame(paths, latency_budget_ms=latency_budget_ms, cost_ms=lambda side: measured_cost_ms(usual, side))
    goods = prepare(paths, framing=plan.framing, white_level=plan.white_level, progress=progress)
    goods = _without(goods, defects, n_files=len(paths))
    small = [each.small for each in goods.prepared]
    with locks.alone(
        workspace.work_folder("fit") / f"{line_name}.lock",
        refusal=f"line {line_name!r} is being fitted by another process",
        hint="wait until it is done",
    ):
        training = workspace.work_folder(f"training-{line_name}")
        model = fit_version(
            goods,
            family=family,
            runtime=runtime_for(small, usual=usual, spec=backbone),
            fpr_budget=fpr_budget,
            seed=seed,
            progress=progress,
            checkpoint=training,
        )
        model = with_responses(model, goods, seed=seed, progress=progress)
        reference = Reference(model.reference_scores, model.reference_covariates)
        number, place = _register(workspace, line_name, detector, model, goods, _shown(plan, backbone, small))
        shutil.rmtree(training)
    return FittedLine(number, place, model, goods, reference, time.perf_counter() - started)


def _without(goods: GoodImages, defects: Set[str], *, n_files: int) -> GoodImages:
    left = tuple(each for each in goods.prepared if each.sha256 not in defects)
    if len(left) < MIN_FIT_IMAGES:
        raise TooFewImages(
            f"{len(left)} good images of {n_files} files, expected at least {MIN_FIT_IMAGES}; "
            f"{len(goods.prepared) - len(left)} are labelled as defects of this line",
            hint="give more good images, or take a wrong label back: halfsigma label LINE IMAGE --as good",
        )
    return replace(goods, prepared=left)


def _register(
    workspace: Workspace,
    line_name: str,
    detector: str,
    model: DetectorVersion,
    goods: GoodImages,
    params: Mapping[str, object],
) -> tuple[int, Literal["champion", "challenger", "registered"]]:
    with tempfile.TemporaryDirectory(dir=workspace.work_folder("fit")) as unfinished:
        folder = Path(unfinished) / "version"
        save_version(model, folder)
        new = NewVersion(
            folder, "fit", params=params, metrics=version_metrics(model), tags=provenance_tags(how_made(folder))
        )
        number = workspace.store.register(line_name, new)
        tags = workspace.store.tags(line_name, number)
        workspace.store.fetch(line_name, number, cache=workspace.cache)  # the first night may find the server away
        kept = {each.sha256: workspace.vault.keep(line_name, each.path, each.sha256) for each in goods.prepared}
        with workspace.database.session() as session:
            line = lines.find_line(session, line_name) or lines.create_line(session, line_name, detector=detector)
            _remember_goods(session, line, goods, kept)
            deployment.mirror_version(session, line, number, folder, tags)
            audit.record(
                session,
                actor=deployment.SYSTEM,
                action="fitted",
                line=line,
                version=number,
                document={**params, **how_made(folder)},
            )
            state = promotion.deploy_first(session, line, workspace.store, number)
    if state.champion == number:
        return number, "champion"
    return number, "challenger" if state.challenger == number else "registered"


def _shown(plan: FramePlan, backbone: BackboneSpec, small: Sequence[NDArray[np.float32]]) -> dict[str, object]:
    return {
        "backbone": backbone.architecture,
        "side_px": plan.framing.side_px,
        "native_side_px": round(plan.native_side_px),
        "white_level": plan.white_level,
        "texture": is_texture(small),
    }


def how_made(folder: Path) -> dict[str, object]:
    """What the audit keeps of a saved version: from which images, with which settings and code.

    The images' own hashes are in its manifest, whose hash is here as well: an altered list would not fit it.
    """
    manifest = read_manifest(folder)
    fitted_on = manifest["provenance"]["fit_images_sha256"]
    return {
        "detector": manifest["family"],
        "seed": manifest["provenance"]["seed"],
        "n_images": len(fitted_on),
        "images_sha256": images_digest(fitted_on),
        "manifest_sha256": images.file_sha256(folder / MANIFEST),
        "code": running_code().to_dict(),
    }


def provenance_tags(made: Mapping[str, object]) -> dict[str, str]:
    """The same as tags of the version in MLflow, for people who look there."""
    code = cast("Mapping[str, str | None]", made["code"])
    return {
        "halfsigma.n_images": str(made["n_images"]),
        "halfsigma.images_sha256": str(made["images_sha256"]),
        "halfsigma.version": str(code["halfsigma"]),
        "halfsigma.source_sha256": str(code["source_sha256"]),
        "halfsigma.lock_sha256": str(code["lock_sha256"] or "no lock file"),
        "halfsigma.packages_sha256": str(code["packages_sha256"]),
    }


def version_metrics(model: DetectorVersion) -> dict[str, float]:
    """What the MLflow UI shows of a version."""
    scores = model.reference_scores
    return {
        "threshold": model.threshold.value,
        "promised_fpr": model.threshold.promised_fpr,
        "reference_mean": float(scores.mean()),
        "reference_sd": float(scores.std(ddof=1)),
        "reference_n": float(scores.size),
    }


def _remember_goods(session: Session, line: Line, goods: GoodImages, kept: dict[str, Path]) -> None:
    images.remember(session, line, {each.sha256: str(each.path.resolve()) for each in goods.prepared})
    images.set_kept(session, line, {sha256: str(path) for sha256, path in kept.items()})
