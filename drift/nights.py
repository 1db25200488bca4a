"""One night of one version, reduced to the few numbers that the nights after it need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from drift.autocorrelation import LagSums, effective_n, lag_one, lag_sums
from drift.bulk import LOWER, UPPER, Sample, bulk_move, clipped_to_bulk, sample
from drift.causes import pictures_moved
from drift.expected_score import ExpectedScore
from drift.reference import Reference
from drift.sensor import faulty_images, shows_no_part
from drift.shift import ReferenceError, reference_error
from drift.ties import spread_ties, step_of
from drift.window import Window

FEW_IMAGES = 3
"""A night with fewer sound scores has no bulk; it takes no part in the history."""
LEAST_VARIANCE = 0.05
"""Of the reference's, per score: equal scores (rounded, or a frozen value) must not look like certainty."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What every night is compared with, computed once a line."""

    reference: Reference
    ordered: NDArray[np.float64]
    """(m,) its scores, ascending."""
    step: float
    """In which the scores come; 0 where they come in none."""
    sample: Sample
    """Of the scores, spread over their steps."""
    sd: float
    bulk_error: ReferenceError
    """Of the reference's bulk: the same error in every night's shift."""
    mean_error: ReferenceError
    n_effective: float
    """Of the reference's scores."""

    @property
    def unit_variance(self) -> float:
        """Of one independent score's part in the bulk, in sd_ref²."""
        return max(self.sample.unit_variance / self.sd**2, LEAST_VARIANCE)


@dataclass(frozen=True, slots=True)
class Night:
    """A night's bulk shift in sd_ref and its error. Pure in (reference, window): it can be kept and used again."""

    night: date
    n: int
    """Sound scores: without images that show a fault of the camera."""
    estimate: float
    unit_variance: float
    extra_variance: float
    excess: float
    lags: LagSums
    shows_no_part: bool = False
    """Another part was photographed, or the scores stood still: no later night is compared with it."""

    def variance(self, rho: float) -> float:
        """Of the night's own part, with the line's lag-1 autocorrelation."""
        return self.unit_variance / effective_n(self.n, rho) + self.extra_variance


def baseline(reference: Reference) -> Baseline:
    """The reference, ready to be compared with; its own autocorrelation is in `v_ref`."""
    step = step_of(reference.scores)
    scores = spread_ties(reference.scores, step)
    usual = sample(scores)
    influence = clipped_to_bulk(scores, usual)
    n_effective = effective_n(reference.n, lag_one([lag_sums(influence)]))
    bulk = reference_error(scores, influence / (UPPER - LOWER), n_effective=n_effective)
    least = LEAST_VARIANCE / n_effective
    return Baseline(
        reference=reference,
        ordered=np.sort(reference.scores),
        step=step,
        sample=usual,
        sd=reference.sd,
        bulk_error=replace(bulk, level=max(bulk.level, least)),
        mean_error=reference_error(scores, scores, n_effective=n_effective),
        n_effective=n_effective,
    )


def summarise(base: Baseline, window: Window) -> Night | None:
    """The night's bulk shift; None where fewer than FEW_IMAGES sound scores are left."""
    sound = sound_images(window, faulty_images(base.reference, window))
    if int(sound.sum()) < FEW_IMAGES:
        return None
    scores = spread_ties(window.scores[sound], base.step)
    # The night's own autocorrelation serves to tell an excess from chance; the line's, pooled, everything else.
    night = sample(scores)
    n_effective = effective_n(len(scores), lag_one([lag_sums(clipped_to_bulk(scores, night))]))
    move = bulk_move(scores, night, base.sample, n_effective=n_effective)
    if move.excess > 0.0:
        unexplained = _unexplained_excess(base, window, sound, n_effective=n_effective)
        if unexplained < move.excess:
            move = bulk_move(scores, night, base.sample, n_effective=n_effective, largest_excess=unexplained)
    covariates = {name: values[sound] for name, values in window.covariates.items()}
    no_part = shows_no_part(base.reference, window.scores[sound], covariates, bulk_shift_sd=move.shift / base.sd)
    return Night(
        night=window.night,
        n=len(scores),
        estimate=move.shift / base.sd,
        unit_variance=max(move.unit_variance / base.sd**2, LEAST_VARIANCE),
        extra_variance=move.extra_variance / base.sd**2,
        excess=move.excess,
        lags=lag_sums(move.influence),
        shows_no_part=no_part is not None,
    )


def _unexplained_excess(base: Baseline, window: Window, sound: NDArray[np.bool_], *, n_effective: float) -> float:
    """The share of high scores that moved pictures do not explain: only for those is the bulk looked for elsewhere.

    1 where the pictures did not move: what the defects' own covariates explain of their scores are still defects.
    """
    covariates = {name: values[sound] for name, values in window.covariates.items()}
    if not pictures_moved(base.reference, covariates, n_effective=n_effective):
        return 1.0
    expected = ExpectedScore.of(base.reference)
    residuals = None if expected is None else expected.residuals(window.scores[sound], covariates)
    if expected is None or residuals is None:
        return 1.0
    return bulk_move(residuals, sample(residuals), sample(expected.usual), n_effective=n_effective).excess


def sound_images(window: Window, faults: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """(n,) images of the night that show no fault of the camera; of the same picture, copied, the first."""
    sound = np.ones(window.n, dtype=bool)
    if window.image_hashes:
        sound[:] = False
        sound[np.unique(np.array(window.image_hashes), return_index=True)[1]] = True
    for mask in faults.values():
        sound &= ~mask
    return sound


LARGEST_STEP = 6.0
"""A step between two nights, squared over its variance, counts at most this: a real change is no restlessness."""
MEAN_CLIPPED_STEP = 0.950
"""The mean of a chi-squared variable of one degree of freedom, clipped at LARGEST_STEP."""
PRIOR_STEPS = 15.0
"""Steps' worth of belief that nights differ by no more than their images do."""


def restlessness(nights: Sequence[Night], rho: float) -> float:
    """How much more the quiet nights' shifts vary from one to the next than their images explain, at least 1.

    Batches, shifts of workers and cleaning move a line a little every night; and an autocorrelation longer than lag 1
    shows here too. Tonight, the last one, does not judge itself.
    """
    past = nights[:-1]
    if len(past) < 3:
        return 1.0
    estimate = np.array([night.estimate for night in past])
    variance = np.array([night.variance(rho) for night in past])
    steps = np.minimum(np.diff(estimate) ** 2 / (variance[1:] + variance[:-1]), LARGEST_STEP) / MEAN_CLIPPED_STEP
    ratio = (PRIOR_STEPS + float(steps.sum())) / (PRIOR_STEPS + len(steps))
    return max(ratio, 1.0)
