"""What a retrain may learn from: a night's images, looked at by a judge that knows the new conditions, and verified goods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from detectors.disturbances.disturbance import Changes
from detectors.disturbances.matching import match
from detectors.disturbances.transfer import Judge, moments_of, transfer
from detectors.families.patchcore import PatchCore
from detectors.fit import PreparedImage
from detectors.photographs.canvases import Canvases, CanvasStore, StoredCanvas
from detectors.photographs.images import to_uint8_rgb
from detectors.photographs.loading import Unreadable, read_ahead
from detectors.photographs.position import small_gray
from detectors.protocol import Progress, no_progress
from detectors.version import DetectorVersion
from drift.reference import Reference
from drift.sensor import faulty_images
from drift.window import Window
from flows.workspace import Workspace
from registry import live, scores
from registry.curation import MIN_FRESH, Candidate, Curation, curate
from registry.scores import NightImage
from registry.suspicion import Suspicion
from registry.tables import Line
from registry.transfer import MIN_CORE, Core, changes_of, named_disturbances, verified_core
from registry.windows import defects_by_night

SEED = 0
JUDGE = "the verified goods under tonight's conditions"
ORDINARY_SHARE = 0.7
"""Of a night, and of the verified goods, by the champion's scores, say how far the goods' patches are to be moved."""
HOLDS_SEVERAL_CONDITIONS = (PatchCore.family,)
"""What learns from goods of the conditions before as well: a bank holds them beside the new ones. The others would learn a mean
of both, and are given only goods that were brought to tonight's conditions by a disturbance."""


@dataclass(frozen=True, slots=True, eq=False)
class CuratedNight:
    """A curation, the candidates that it chose from, and what the images were judged by."""

    candidates: tuple[Candidate, ...]
    curation: Curation
    core: Core
    """Verified goods that are learned from besides; empty where there are too few of them, or they are too unlike the night's."""
    transferred: tuple[PreparedImage, ...]
    """Its images, as far under tonight's conditions as these could be told."""
    judge: Judge | None
    """None where the champion judged."""

    def to_json(self) -> dict[str, Any]:
        """What the retrain's next steps need, and what is kept beside the version."""
        curation = self.curation
        return {
            "chosen": {each.sha256: each.path for each in curation.chosen},
            "left_out": dict(curation.left_out),
            "limit": curation.limit,
            "judge": curation.suspicion.judge,
            "suspicion": dict(curation.suspicion.scores),
            "defect_share": curation.defect_share,
            "n_perhaps_good": curation.n_perhaps_good,
            "n_defects": curation.n_defects,
            "held_back": sorted(curation.held_back),
            "to_look_at": [each.sha256 for each in curation.to_look_at],
            "core": {sha256: str(path) for sha256, path in self.core.files.items()},
            "transferred": self.core.to_json(),
        }


def curate_night(
    workspace: Workspace, line: Line, *, night: date, base_version: int, progress: Progress = no_progress
) -> CuratedNight:
    """Choose from the images of `night` and of the nights before it since the change; the same images give the same choice.

    Raises:
        TooFewImages: fewer good images remain than a retrain learns from.
    """
    champion = workspace.load(line.name, base_version)
    with workspace.database.session() as session:
        document = live.night_as_seen(session, line, base_version, night)
        first = date.fromisoformat(document["changed_on"]) if document.get("changed_on") else night
        nights = [each for each in scores.nights_scored(session, line, version=base_version) if first <= each <= night]
        defect_share = _defect_share(session, line, base_version, nights)
        candidates = _candidates(session, line, champion, base_version, nights)
        core = verified_core(
            session,
            line,
            champion.provenance,
            base_version=base_version,
            before=first,
            n_most=len(candidates),
            seed=SEED,
        )
    small, canvases = _look(candidates, champion, progress)
    transferred: tuple[PreparedImage, ...] = ()
    judge, suspicion = None, None
    # whatever people said of them: what they are asked to look at must not change with their answers
    of_night = {each.sha256: each.score for each in candidates if each.sha256 in canvases and not each.fault}
    if core.files and len(of_night) >= MIN_FRESH:
        tonight = Canvases([canvases[sha256] for sha256 in of_night])
        core, transferred = _under_tonight(core, tonight, named_disturbances(document), champion, progress)
    if transferred:
        ordinary = Canvases([canvases[sha256] for sha256 in _ordinary(of_night)])
        judge = Judge.of(
            transferred,
            moments_of(ordinary, version=champion, seed=SEED, progress=progress),
            _ordinary({image.sha256: champion.model.score(image.canvas).score for image in transferred}),
            version=champion,
            seed=SEED,
            progress=progress,
        )
        found = judge.scores(Canvases(list(canvases.values())))
        suspicion = Suspicion(dict(zip(canvases, found, strict=True)), judge.usual, JUDGE)
    if suspicion is None or not suspicion.fits():
        core, transferred, judge, suspicion = Core(), (), None, None
    if not core.tonight and champion.model.family not in HOLDS_SEVERAL_CONDITIONS:
        core, transferred = Core(), ()
    curation = curate(
        candidates,
        reference_scores=champion.reference_scores,
        threshold=champion.threshold.value,
        defect_share=defect_share,
        fpr_budget=line.fpr_budget,
        small_images=small,
        seed=SEED,
        judge=suspicion,
        has_core=bool(transferred),
    )
    return CuratedNight(tuple(candidates), curation, core, transferred, judge)


def cleared_document(chosen: Mapping[str, str]) -> dict[str, Any]:
    """As `CuratedNight.to_json`, of images that a person cleared one by one: SHA-256 → file."""
    return {
        "chosen": dict(chosen),
        "left_out": {},
        "limit": None,
        "judge": "a person",
        "suspicion": {},
        "defect_share": 0.0,
        "n_perhaps_good": 0,
        "n_defects": 0,
        "held_back": [],
        "to_look_at": [],
        "core": {},
        "transferred": [],
    }


def curated_core(
    document: Mapping[str, Any], champion: DetectorVersion, progress: Progress
) -> tuple[PreparedImage, ...]:
    """The transferred goods of a curation that was written as `CuratedNight.to_json`."""
    files = {sha256: Path(path) for sha256, path in document["core"].items()}
    return transferred_core(files, changes_of(document["transferred"]), champion, progress)


def transferred_core(
    files: Mapping[str, Path], changes: Mapping[str, Sequence[Any]], champion: DetectorVersion, progress: Progress
) -> tuple[PreparedImage, ...]:
    """None of them where the vault has lost so many that too few are left."""
    transferred = transfer(files, changes, version=champion, seed=SEED, progress=progress)
    return transferred if len(transferred) >= MIN_CORE else ()


def _under_tonight(
    core: Core, tonight: Canvases, named: Changes, champion: DetectorVersion, progress: Progress
) -> tuple[Core, tuple[PreparedImage, ...]]:
    """The core under what happened tonight, so far as that can be told, and its images."""
    as_before = transferred_core(core.files, core.changes, champion, progress)
    if not as_before:
        return Core(), ()
    happened = match(
        as_before,
        core.changes,
        moments_of(tonight, version=champion, seed=SEED, progress=progress),
        starts=[named] if named else [],
        version=champion,
        seed=SEED,
        progress=progress,
    )
    core = core.under(happened)
    return core, transferred_core(core.files, core.changes, champion, progress) if happened else as_before


def _defect_share(session: Session, line: Line, base_version: int, nights: Sequence[date]) -> float:
    """Of all images of these nights: a check leaves out what was called a defect before it."""
    labelled = defects_by_night(session, line.id, base_version)
    n_defects, n_all = 0.0, 0
    for night in nights:
        document = live.night_as_seen(session, line, base_version, night)
        n_scored = scores.count(session, line, base_version, night).n_scored
        n_judged, share = int(document["n"]), float(document["defect_share"] or 0.0)  # null where it is no number
        n_defects += share * n_judged + min(n_scored - n_judged, len(labelled.get(night, ())))
        n_all += n_scored
    return n_defects / max(n_all, 1)


def _candidates(
    session: Session, line: Line, champion: DetectorVersion, base_version: int, nights: Sequence[date]
) -> list[Candidate]:
    found = []
    for night in nights:
        images = scores.night_images(session, line, base_version, night)
        faults = _faults(images, champion, night)
        found += [
            Candidate(
                image.sha256,
                image.kept_path or image.path or "",
                image.score,
                image.label,
                image.captured_at,
                faults.get(index, ""),
            )
            for index, image in enumerate(images)
        ]
    return found


def _faults(images: Sequence[NightImage], champion: DetectorVersion, night: date) -> dict[int, str]:
    """Place in the night → why no part explains that picture."""
    reference = Reference(champion.reference_scores, champion.reference_covariates)
    measured = {
        name: np.array([image.covariates[name] for image in images])
        for name in reference.covariates
        if all(name in image.covariates for image in images)
    }
    window = Window(night=night, scores=np.array([image.score for image in images]), covariates=measured)
    return {
        int(index): kind for kind, mask in faulty_images(reference, window).items() for index in np.flatnonzero(mask)
    }


def _ordinary(scores: Mapping[str, float]) -> list[str]:
    """SHA-256 of the images that the champion scores lowest."""
    return sorted(scores, key=lambda sha256: scores[sha256])[: round(ORDINARY_SHARE * len(scores))]


def _look(
    candidates: Sequence[Candidate], champion: DetectorVersion, progress: Progress
) -> tuple[dict[str, NDArray[np.float32]], dict[str, StoredCanvas]]:
    """Small gray pictures and canvases of the candidates whose files are still what was scored, by SHA-256."""
    wanted = {Path(each.path): each.sha256 for each in candidates if each.path}
    small, canvases, store = {}, {}, CanvasStore()
    for index, item in enumerate(read_ahead(list(wanted))):
        progress("curation", index, len(wanted))
        if isinstance(item, Unreadable) or item.sha256 != wanted[item.path]:
            continue
        image = to_uint8_rgb(item.pixels, white_level=champion.white_level)
        small[item.sha256] = small_gray(image)
        canvases[item.sha256] = store.keep(champion.framing.frame(image))
    return small, canvases


def leave_out(document: Mapping[str, Any], reasons: Mapping[str, str]) -> dict[str, Any]:
    """The curation's document with the images of `reasons` moved from the chosen and the core to those left out."""
    kept = {
        group: {sha256: path for sha256, path in document[group].items() if sha256 not in reasons}
        for group in ("chosen", "core")
    }
    gone = {sha: reason for sha, reason in reasons.items() if sha in document["chosen"] or sha in document["core"]}
    return {**document, **kept, "left_out": {**document["left_out"], **gone}}


def summary_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the retrain's row and the alerts say of a curation's document."""
    reasons: dict[str, int] = {}
    for reason in document["left_out"].values():
        reasons[reason] = reasons.get(reason, 0) + 1
    n_chosen = len(document["chosen"])
    return {
        "n_candidates": n_chosen + len(document["left_out"]),
        "n_chosen": n_chosen,
        "n_held_back": len(set(document["held_back"]) & set(document["chosen"])),
        "n_core": len(document["core"]),
        "judge": document["judge"],
        "defect_share": document["defect_share"],
        "left_out": reasons,
    }
