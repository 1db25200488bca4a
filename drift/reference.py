"""The frozen scores that every night of a version is compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drift.checks import finite_vector
from drift.responses import Response, Responses
from halfsigma import ScoreError

MIN_REFERENCE = 2
"""A standard deviation needs two scores; whether the reference is *enough* is the power calculation's business."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Scores of good images that the version was not fitted on, and the covariates of the same images.

    `scores` has shape (n,); every covariate has the same n and order. All must be finite, n at least 2, and
    the scores must not be constant: otherwise :class:`halfsigma.ScoreError`.

    >>> reference = Reference(scores=[1.0, 2.0, 3.0])
    >>> reference.n, reference.mean, reference.sd
    (3, 2.0, 1.0)
    """

    scores: NDArray[np.float64]
    covariates: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    responses: Sequence[Response] = ()
    """To known disturbances, measured when the version was fitted; a detector that is not ours has none."""

    def __post_init__(self) -> None:
        scores = finite_vector(self.scores, what="the reference's scores")
        if len(scores) < MIN_REFERENCE:
            raise ScoreError(
                f"the reference has {len(scores)} scores, expected at least {MIN_REFERENCE}",
                hint="fit the line again with more good images",
            )
        if not float(np.ptp(scores)) > 0.0:
            raise ScoreError(
                f"all {len(scores)} scores of the reference are equal ({scores[0]:g}), expected some spread",
                hint="a shift is measured in the reference's standard deviations: check the detector, fit again",
            )
        covariates = {
            name: finite_vector(values, what=f"the reference's covariate {name!r}", n=len(scores))
            for name, values in self.covariates.items()
        }
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "covariates", covariates)

    @property
    def n(self) -> int:
        """How many good images the reference holds."""
        return len(self.scores)

    @property
    def mean(self) -> float:
        """`mean_ref`."""
        return float(self.scores.mean())

    @property
    def sd(self) -> float:
        """`sd_ref`, with n - 1 in the denominator; the unit of every shift."""
        return float(self.scores.std(ddof=1))

    def to_json(self) -> dict[str, Any]:
        """A mapping of plain values that `from_json` turns back into an equal reference; the responses are one text."""
        return {
            "scores": self.scores.tolist(),
            "covariates": {name: values.tolist() for name, values in self.covariates.items()},
            "responses": json.dumps([response.to_json() for response in self.responses]),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Reference:
        """The reference that `to_json` wrote, or a version's reference.json, in which the responses are a list."""
        if "scores" not in document:
            raise ScoreError(
                f"a reference needs the key 'scores', found {sorted(document)}",
                hint="the artifact reference.json is damaged: fit the line again",
            )
        return cls(
            scores=document["scores"],
            covariates=document.get("covariates", {}),
            responses=Responses(document.get("responses", ())),
        )
