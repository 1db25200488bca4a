"""What a good image's covariates lead one to expect of its score: a ridge regression on the reference and on disturbed copies.

A brighter lamp saturates the bright parts of a line and leaves the dark ones alone: half of the goods then score as
defects do. Their covariates tell them from defects, image by image: what a good image scores beyond the expected does not
grow with the lamp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift.reference import Reference
from drift.responses import LOGARITHMIC

Values = NDArray[np.float64]

UNUSED = ("width", "height")
"""Of a picture of another size nothing is expected: that is a fault of the camera."""
RIDGE = 10.0
"""As much as ten images that say that no covariate matters."""
COPY_WEIGHT = 0.3
"""Of a disturbed copy beside an image of the reference: the copies of ten images are no independent ones."""
LEAST_SPREAD = 1e-3
"""Of a covariate that does not vary in the reference, on the scale on which disturbances add."""
MOST_EXCESS_LEVERAGE = 0.9
"""A residual is divided by one minus its leverage, at most by ten."""


@dataclass(frozen=True, slots=True)
class ExpectedScore:
    """`residuals` of new images, and `usual`, those of the reference's, each predicted without itself."""

    names: tuple[str, ...]
    centre: Values
    spread: Values
    coefficients: Values
    offset: float
    usual: Values
    """(n,) in score units, in the reference's order."""

    @classmethod
    def of(cls, reference: Reference) -> ExpectedScore | None:
        """The regression of a reference; None where no response to a disturbance was measured.

        A score is taken as additive in each covariate and in its square, on a logarithmic scale far from the usual.
        Of the reference's images the scores count, of the copies what the disturbance changed.
        """
        names = tuple(
            name
            for name in reference.covariates
            if name not in UNUSED and all(name in response.usual for response in reference.responses)
        )
        if not reference.responses or not names:
            return None
        values = _columns(reference.covariates, names)
        centre, spread = np.median(values, axis=0), np.maximum(values.std(axis=0), LEAST_SPREAD)
        own = _features(values, centre, spread)
        changed, changes = [], []
        for response in reference.responses:
            before, after = (
                _features(_columns(part, names), centre, spread) for part in (response.usual, response.disturbed)
            )
            changed.append(after - before)
            changes.append(np.asarray(response.score_changes, np.float64))
        weight = np.sqrt(COPY_WEIGHT)
        middle, mean = own.mean(axis=0), reference.mean
        design = np.concatenate([own - middle, *(weight * each for each in changed)])
        target = np.concatenate([reference.scores - mean, *(weight * each for each in changes)])
        inverse = np.linalg.inv(design.T @ design + RIDGE * np.eye(design.shape[1]))
        coefficients = inverse @ (design.T @ target)
        leverage = np.einsum("ij,jk,ik->i", own - middle, inverse, own - middle) + 1.0 / reference.n
        usual = reference.scores - mean - (own - middle) @ coefficients
        return cls(
            names=names,
            centre=centre,
            spread=spread,
            coefficients=coefficients,
            offset=mean - float(middle @ coefficients),
            usual=usual / (1.0 - np.minimum(leverage, MOST_EXCESS_LEVERAGE)),
        )

    def residuals(self, scores: Values, covariates: Mapping[str, Values]) -> Values | None:
        """(n,) scores less what is expected of them, in score units; None where a covariate was not measured."""
        if any(name not in covariates for name in self.names):
            return None
        features = _features(_columns(covariates, self.names), self.centre, self.spread)
        return scores - features @ self.coefficients - self.offset


def _columns(covariates: Mapping[str, object], names: tuple[str, ...]) -> Values:
    """(n, covariates) on the scale on which disturbances add, as `drift.responses.coordinate`."""
    columns = []
    for name in names:
        values = np.asarray(covariates[name], np.float64)
        floor = LOGARITHMIC.get(name)
        columns.append(values if floor is None else np.log(np.maximum(values, 0.0) + floor))
    return np.stack(columns, axis=1)


def _features(values: Values, centre: Values, spread: Values) -> Values:
    away = (values - centre) / spread
    squashed = np.sign(away) * np.log1p(np.abs(away))
    return np.concatenate([squashed, squashed**2], axis=1)
