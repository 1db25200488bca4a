"""A real retrain on a disturbed night, tried on held-out images of the same station; nothing is registered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.runtime import FeatureRuntime
from detectors.calibration import Doubt
from detectors.disturbances.specimens import prepared_score
from detectors.fit import GoodImages, PreparedImage, fit_version
from detectors.protocol import Detector
from detectors.version import DetectorVersion
from flows.drill.result import Relearned
from registry.curation import Candidate, curate
from registry.harm import figures


@dataclass(frozen=True, slots=True, eq=False)
class Exposure:
    """The drill's images as one station takes them, and what the champion says of them."""

    night: tuple[PreparedImage, ...]
    held_out: tuple[PreparedImage, ...]
    defects: tuple[PreparedImage, ...]
    night_scores: NDArray[np.float64]
    held_out_scores: NDArray[np.float64]
    defect_scores: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the line retrains."""

    family: type[Detector]
    runtime: FeatureRuntime
    """Used by retrains alone: they run beside the champion's scoring."""
    fpr_budget: float
    seed: int


def relearn(exposure: Exposure, champion: DetectorVersion, recipe: Recipe, *, defect_share: float) -> Relearned:
    """Curate the night as a retrain does, fit, and judge what was held out.

    Raises:
        TooFewImages: fewer good images remain than a retrain learns from.
    """
    candidates = [
        Candidate(image.sha256, str(image.path), float(score), None)
        for image, score in zip(exposure.night, exposure.night_scores, strict=True)
    ]
    curation = curate(
        candidates,
        reference_scores=champion.reference_scores,
        threshold=champion.threshold.value,
        defect_share=defect_share,
        fpr_budget=recipe.fpr_budget,
        small_images={image.sha256: image.small for image in exposure.night},
        seed=recipe.seed,
    )
    chosen = {candidate.sha256 for candidate in curation.chosen}
    prepared = tuple(image for image in exposure.night if image.sha256 in chosen)
    goods = GoodImages(prepared, (), 0, champion.framing, champion.white_level)
    challenger = fit_version(
        goods,
        family=recipe.family,
        runtime=recipe.runtime,
        fpr_budget=recipe.fpr_budget,
        seed=recipe.seed,
        warm_start=champion,
        doubt=Doubt(champion.good_scores, curation.n_defects, curation.n_perhaps_good),
    )
    found = figures(
        scores_of(challenger, exposure.held_out),
        scores_of(challenger, exposure.defects),
        threshold=challenger.threshold.value,
    )
    return Relearned(found, len(prepared))


def scores_of(version: DetectorVersion, images: Sequence[PreparedImage]) -> NDArray[np.float64]:
    """(n,) scores in order."""
    return np.array([prepared_score(version, image) for image in images])
