"""A fitted detector as it is deployed: framing, model, threshold and reference, ready to score photographs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.runtime import FeatureRuntime
from detectors.calibration import Threshold, n_taken_for_defects
from detectors.disturbances.responses import Response
from detectors.photographs.covariates import measure_covariates
from detectors.photographs.framing import Framing
from detectors.photographs.images import Pixels, to_uint8_rgb
from detectors.photographs.position import POSITION_NAMES, PartTemplate
from detectors.protocol import Detector


@dataclass(frozen=True, slots=True)
class ScoredImage:
    """What one version says of one photograph."""

    score: float
    rejected: bool
    anomaly_map: NDArray[np.float32]
    """(rows, columns) of patches, on the scale of the score."""
    covariates: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class DetectorVersion:
    """Everything that a station needs to judge a photograph, and that a check needs to judge the station.

    Attributes:
        framing: the working resolution.
        white_level: the camera's full scale of 16-bit images, 255 for 8-bit ones.
        runtime: the frozen backbone, shared with ``model``; a retrain on the same backbone takes it over.
        model: the fitted family.
        template: the line's mean image.
        threshold: scores above it are rejected.
        reference_scores: (n,) float64, of good images that the model was not fitted on.
        reference_covariates: name → (n,) float64, of the same images in the same order.
        responses: how covariates and scores answer to known disturbances.
        provenance: JSON-able: seed, counts, image hashes, package versions.
    """

    framing: Framing
    white_level: int
    runtime: FeatureRuntime
    model: Detector
    template: PartTemplate
    threshold: Threshold
    reference_scores: NDArray[np.float64]
    reference_covariates: Mapping[str, NDArray[np.float64]]
    provenance: Mapping[str, object]
    responses: tuple[Response, ...] = ()

    @property
    def fpr_budget(self) -> float:
        """For which the threshold was chosen."""
        return cast("float", self.provenance.get("fpr_budget", self.threshold.promised_fpr))

    @property
    def n_taken_for_defects(self) -> int:
        """Of the reference's images, above the threshold."""
        return n_taken_for_defects(self.reference_scores, self.threshold.value, fpr_budget=self.fpr_budget)

    @property
    def good_scores(self) -> NDArray[np.float64]:
        """(m,) ascending: the reference without what was taken for defects in it."""
        return np.sort(self.reference_scores)[: self.reference_scores.size - self.n_taken_for_defects]

    def score_along(self, pixels: Pixels, *, measured: Mapping[str, float]) -> ScoredImage:
        """Judge a photograph that another version of the line has measured: what depends on no template is taken over."""
        image = to_uint8_rgb(pixels, white_level=self.white_level)
        result = self.model.score(self.framing.frame(image))
        return ScoredImage(
            score=result.score,
            rejected=result.score > self.threshold.value,
            anomaly_map=result.anomaly_map,
            covariates={name: value for name, value in measured.items() if name not in POSITION_NAMES},
        )

    def score(self, pixels: Pixels) -> ScoredImage:
        """Judge one photograph, (h, w) or (h, w, 3), uint8 or uint16.

        An image is scored alone, never in a batch, so that its score does not depend on its neighbours.
        """
        image = to_uint8_rgb(pixels, white_level=self.white_level)
        result = self.model.score(self.framing.frame(image))
        covariates = measure_covariates(image, template=self.template, original_size=pixels.shape[:2])
        return ScoredImage(
            score=result.score,
            rejected=result.score > self.threshold.value,
            anomaly_map=result.anomaly_map,
            covariates=covariates,
        )
