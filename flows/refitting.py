"""Fitting a challenger and its twin on what was curated, and trying them at the gates."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np

from detectors.artifact import load_version, save_version
from detectors.calibration import Doubt
from detectors.fit import GoodImages, PreparedImage, fit_version, prepare, scores_of_fitted, with_responses
from detectors.growing import grow_versions
from detectors.photographs.images import Pixels, is_as_deep
from detectors.photographs.loading import Unreadable, read_ahead
from detectors.protocol import Progress
from detectors.version import DetectorVersion
from flows import retrain_files
from flows.curating import curated_core, leave_out, summary_of
from flows.retrain_files import ADDED, CHALLENGER, CURATED, FITTED, GATES, LEARNED, TRAINING, TWIN
from flows.workspace import Workspace
from registry import images
from registry.curation import second_look
from registry.tables import Image, Line, Retrain
from registry.trial import ROUND_TRIP_IMAGES, Trial, run_trial

SEED = 0
PROBE_SHARE = 0.3
"""Of the curated images are new to the twin that the gates try; the challenger itself learns from all."""
LEAST_PROBES_LEFT = 0.8
"""Of the probes that were held back; where more files are gone, those that are left may all be of one hour."""
MAX_PROBES = 150
MAX_GOLDEN = 200


def fit_challenger(workspace: Workspace, retrain: Retrain, line: Line, progress: Progress) -> Retrain:
    """The challenger learns from all that was curated, its twin from all but the probes; both are saved.

    What the challenger itself finds far outside is left out, and it is fitted again.
    """
    champion = workspace.load(line.name, retrain.base_version)
    folder = retrain_files.folder_of(workspace, retrain)
    with workspace.database.session() as session:
        vetoed = {image.sha256: "a person called it a defect" for image in images.labelled(session, line, "defect")}
        cleared = {image.sha256 for image in images.labelled(session, line, "good")}
    curated = leave_out(json.loads((folder / CURATED).read_text()), vetoed)
    chosen = curated["chosen"]
    goods = prepare(
        [Path(path) for path in chosen.values()],
        framing=champion.framing,
        white_level=champion.white_level,
        progress=progress,
    )
    # a file that was replaced since the curation is another image, which nobody looked at
    goods = replace(goods, prepared=tuple(each for each in goods.prepared if each.sha256 in chosen))
    held_back = frozenset(curated["held_back"])
    if ADDED in retrain.document:
        retrain_files.write_json(folder / LEARNED, curated)
        probes = _probes(chosen)
        challenger, twin = _grow(goods, frozenset(probes.values()), champion, line, workspace, progress)
        return _fitted(workspace, retrain, challenger, twin, probes, n_fit=len(goods.prepared))
    training = folder / TRAINING
    core = curated_core(curated, champion, progress)
    doubt = Doubt(champion.good_scores, int(curated.get("n_defects", 0)), int(curated["n_perhaps_good"]))
    challenger = _fit_goods(goods, held_back, core, champion, line, progress, training, doubt)
    candidates = [each.sha256 for each in goods.prepared]
    outliers = second_look(
        scores_of_fitted(challenger, goods),
        own_reference=challenger.reference_scores,
        reference_scores=champion.good_scores,
        cleared=np.array([sha256 in cleared for sha256 in candidates]),
    )
    suspects = {candidates[i]: "suspect: a model of the new conditions finds it far outside" for i in outliers}
    if suspects:
        curated = leave_out(curated, suspects)
        goods = replace(goods, prepared=tuple(each for each in goods.prepared if each.sha256 not in suspects))
        doubt = doubt.without(len(suspects), n_images=len(candidates), fpr_budget=line.fpr_budget)
        challenger = _fit_goods(goods, held_back, core, champion, line, progress, training, doubt)
    retrain_files.write_json(folder / LEARNED, curated)
    challenger = with_responses(challenger, goods, seed=SEED, progress=progress)
    challenger = replace(challenger, provenance={**challenger.provenance, "transferred": curated["transferred"]})
    probes = _probes(curated["chosen"])
    fewer = _without(goods, probes.keys())
    doubt = doubt.of_share(len(fewer.prepared) / len(goods.prepared))
    twin = _fit_goods(fewer, held_back, core, champion, line, progress, training, doubt)
    n_fit = sum(each.sha256 not in held_back for each in goods.prepared) + len(core)
    return _fitted(workspace, retrain, challenger, twin, probes, n_fit=n_fit, curation=summary_of(curated))


def _fitted(
    workspace: Workspace,
    retrain: Retrain,
    challenger: DetectorVersion,
    twin: DetectorVersion,
    probes: Mapping[Path, str],
    **document: object,
) -> Retrain:
    folder = retrain_files.folder_of(workspace, retrain)
    for name, version in ((CHALLENGER, challenger), (TWIN, twin)):
        shutil.rmtree(folder / name, ignore_errors=True)
        save_version(version, folder / name)
    few = islice(_Photographs(probes).named(), ROUND_TRIP_IMAGES)
    retrain_files.write_json(folder / FITTED, {"scores": {sha: challenger.score(pixels).score for sha, pixels in few}})
    return retrain_files.advance(workspace, retrain, "fitted", {**document, "n_probes": len(probes)})


def _grow(
    goods: GoodImages,
    held_out: Set[str],
    champion: DetectorVersion,
    line: Line,
    workspace: Workspace,
    progress: Progress,
) -> list[DetectorVersion]:
    """The champion with some images more, and its twin without those held out; its own images are read from where they are kept."""
    reference = cast("Sequence[str]", champion.provenance["reference_images_sha256"])
    with workspace.database.session() as session:
        files = {sha256: _where(image) for sha256, image in images.find(session, line, reference).items()}
    return grow_versions(
        champion,
        goods,
        held_out=[frozenset(), held_out],
        known_files=files,
        fpr_budget=line.fpr_budget,
        seed=SEED,
        progress=progress,
    )


def _fit_goods(
    goods: GoodImages,
    held_back: Set[str],
    core: Sequence[PreparedImage],
    champion: DetectorVersion,
    line: Line,
    progress: Progress,
    training: Path,
    doubt: Doubt,
) -> DetectorVersion:
    """A family that is trained goes on from the champion, the twin too, which has seen none of the probes."""
    learned = replace(goods, prepared=tuple(each for each in goods.prepared if each.sha256 not in held_back))
    return fit_version(
        learned,
        family=type(champion.model),
        runtime=champion.runtime,
        fpr_budget=line.fpr_budget,
        seed=SEED,
        progress=progress,
        warm_start=champion,
        checkpoint=training,
        core=core,
        held_back=[each for each in goods.prepared if each.sha256 in held_back],
        doubt=doubt,
    )


def _without(goods: GoodImages, paths: Set[Path]) -> GoodImages:
    return replace(goods, prepared=tuple(each for each in goods.prepared if each.path not in paths))


def try_challenger(workspace: Workspace, retrain: Retrain, line: Line, progress: Progress) -> Retrain:
    """Run the gates on what was saved, and keep what each found."""
    folder = retrain_files.folder_of(workspace, retrain)
    probes = _Photographs(_probes(json.loads(retrain_files.latest_curation(folder).read_text())["chosen"]))
    with workspace.database.session() as session:
        golden = images.golden_set(session, line, most=max(MAX_GOLDEN, line.min_labels))
    champion = workspace.load(line.name, retrain.base_version)
    trial = Trial(
        champion=champion,
        challenger=load_version(folder / CHALLENGER),
        reloaded=load_version(folder / CHALLENGER),
        twin=load_version(folder / TWIN),
        probes=probes,
        golden=_Golden(golden, champion.white_level),
        least_labels=line.min_labels,
        least_probes=math.ceil(LEAST_PROBES_LEFT * len(probes.files)),
        fitted_scores=_fitted_scores(folder, probes),
    )
    found = run_trial(
        trial,
        night=retrain.night,
        fpr_budget=line.fpr_budget,
        latency_budget_ms=line.latency_budget_ms,
        seed=SEED,
        progress=progress,
    )
    document = {"gates": [gate.to_dict() for gate in found]}
    retrain_files.write_json(folder / GATES, document)
    return retrain_files.advance(workspace, retrain, "gated", document)


def _probes(chosen: Mapping[str, str]) -> dict[Path, str]:
    """File → SHA-256 of the fresh goods that the twin does not see."""
    paths = [(Path(path), sha256) for sha256, path in chosen.items()]
    n_probes = min(MAX_PROBES, round(PROBE_SHARE * len(paths)))
    drawn = np.random.default_rng(SEED).choice(len(paths), n_probes, replace=False)
    return dict(sorted(paths[index] for index in drawn))


def _fitted_scores(folder: Path, probes: _Photographs) -> list[float] | None:
    """Of the first probes that are there now, as the challenger gave them when it was fitted; None if one is another since."""
    known = json.loads((folder / FITTED).read_text())["scores"]
    few = [sha256 for sha256, _ in islice(probes.named(), ROUND_TRIP_IMAGES)]
    if not isinstance(known, dict) or not all(sha256 in known for sha256 in few):
        return None
    return [known[sha256] for sha256 in few]


@dataclass(frozen=True, slots=True)
class _Photographs:
    """Those of these files that are still what was curated, read again each time they are gone through."""

    files: Mapping[Path, str]
    """File → SHA-256."""

    def __iter__(self) -> Iterator[Pixels]:
        return (pixels for _, pixels in self.named())

    def named(self) -> Iterator[tuple[str, Pixels]]:
        """SHA-256 and pixels of each."""
        for item in read_ahead(list(self.files)):
            if not isinstance(item, Unreadable) and item.sha256 == self.files[item.path]:
                yield item.sha256, item.pixels


@dataclass(frozen=True, slots=True)
class _Golden:
    """Labelled defects with their kinds, None where a file is no more what was labelled; those of another bit depth, from a camera
    that the line had before, say nothing of this one."""

    images: Sequence[Image]
    white_level: int

    def __iter__(self) -> Iterator[tuple[Pixels | None, str]]:
        for image, item in zip(self.images, read_ahead([_where(image) for image in self.images]), strict=True):
            if isinstance(item, Unreadable) or item.sha256 != image.sha256:
                yield None, image.kind or ""
            elif is_as_deep(item.pixels, self.white_level):
                yield item.pixels, image.kind or ""


def _where(image: Image) -> Path:
    return Path(image.kept_path or image.path)
