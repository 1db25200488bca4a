"""From the scores of good images that a version was not fitted on to the threshold that it rejects by."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from halfsigma import DetectorError, TooFewImages

MIN_REFERENCE = 20
"""Below this the reference's standard deviation is known to ± 16 % at best, and half of it means little."""
REFERENCE_SHARE = 0.2
USUAL_REFERENCE, MOST_REFERENCE = 99, 300
"""Images held out: a fifth, but 99 if that is no more than a third, since no threshold from fewer promises the usual
budget of 1 %; of more than 300 the threshold's spread hardly gains."""
LEAST_FITTED, LEAST_NEW = 12, 50
"""What a training is left with at least; how many new images, beside known ones, if that costs no more than half of them."""
WARM_FITTED = 100
"""New images from which a warm start learns what it learns from twice as many; the others make its threshold surer."""
MIN_FOLDS, MAX_FOLDS = 10, 30
IMAGES_TIMES_FOLDS = 3000
"""What is fitted without a fold lacks 1/K of the images, which lifts the fold's scores; the fewer the images, the cheaper a fit, so the
more folds. benchmarks/closed_loop_on_tiles.py measures what remains of PatchCore: 0.00 SD with 300 images, +0.01 to +0.06 with 100."""
MAD_TO_SD = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""
KNOWN_SHARE = 0.5
"""Of the budget: beyond the score that so few of the known goods exceed no threshold of a doubtful reference lies. The rest is room
for what the comparison of two references errs by; where known goods are too few to say so little, there is less room, or none."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """The score above which an image is rejected, and the false-positive rate that it promises."""

    value: float
    promised_fpr: float
    """Upper bound of the expected share of rejected images, 0…1, for images exchangeable with the reference's: of false
    positives, unless some of these are taken for defects."""


@dataclass(frozen=True, slots=True, eq=False)
class Doubt:
    """What is known of a reference that nobody verified.

    Attributes:
        known: (m,) the reference of the version before, without what was taken for defects in it.
        n_defects: expected among the reference's images.
        n_above: suspects that were left out and are perhaps good, as `conformal_threshold` counts them.
    """

    known: NDArray[np.float64]
    n_defects: int = 0
    n_above: int = 0

    def of_share(self, share: float) -> Doubt:
        """Of a draw of the reference's images."""
        return replace(self, n_defects=round(share * self.n_defects), n_above=round(share * self.n_above))

    def without(self, n_suspects: int, *, n_images: int, fpr_budget: float) -> Doubt:
        """With so many suspects left out: more than the expected defects are perhaps good, up to the budget of all images.

        >>> Doubt(np.empty(0), n_defects=4, n_above=1).without(6, n_images=300, fpr_budget=0.01)
        Doubt(known=array([], dtype=float64), n_defects=0, n_above=3)
        """
        n_perhaps_good = self.n_above + max(n_suspects - self.n_defects, 0)
        most = max(self.n_above, math.ceil(fpr_budget * n_images))
        return replace(self, n_defects=max(self.n_defects - n_suspects, 0), n_above=min(n_perhaps_good, most))


def conformal_threshold(scores: NDArray[np.float64], *, fpr_budget: float, n_above: int = 0) -> Threshold:
    """The smallest reference score that at most ``fpr_budget`` of new good images exceed in expectation.

    Split conformal prediction (Vovk et al. 2005; Lei et al. 2018): with n exchangeable scores, the k-th smallest with
    k = ⌈(n + 1)(1 − budget)⌉ is exceeded with probability at most the budget. With n < 1/budget − 1 no order statistic
    promises so little: the largest is taken, which promises 1 / (n + 1).

    >>> conformal_threshold(np.arange(1.0, 101.0), fpr_budget=0.05).value
    96.0

    Args:
        scores: (n,) float64, scores of good images that the detector was not fitted on.
        fpr_budget: accepted share of rejected good images, in (0, 0.5].
        n_above: images that were left out for scoring high and are perhaps good: counted as above all of ``scores``, so
            that leaving them out does not lower the threshold; the promise counts them as rejected where they would be.

    Raises:
        TooFewImages: fewer than `MIN_REFERENCE` scores.
        DetectorError: a score is not finite, or the budget is out of range.
    """
    n = int(scores.size)
    if n < MIN_REFERENCE:
        raise TooFewImages(
            f"{n} reference scores, expected at least {MIN_REFERENCE}", hint="give more good images to fit"
        )
    if not np.isfinite(scores).all():
        raise DetectorError("a reference score is not finite", hint="look at the images that were fitted on")
    if not 0.0 < fpr_budget <= 0.5:
        raise DetectorError(f"false-positive budget {fpr_budget:g}, expected more than 0 and at most 0.5")
    n_all = n + n_above
    rank = min(n, math.ceil((n_all + 1) * (1.0 - fpr_budget) - 1e-9))
    return Threshold(float(np.partition(scores, rank - 1)[rank - 1]), (n_all + 1 - rank) / (n_all + 1))


def threshold_in_doubt(scores: NDArray[np.float64], doubt: Doubt, *, fpr_budget: float) -> Threshold:
    """`conformal_threshold` of a reference that nobody verified, lowered to where hardly a known good lies.

    Defects that nobody noticed stand at the upper end of a reference and lift a threshold of 1 % over most of what it is
    there for, but hardly touch its bulk. The known goods, scored by another version, are brought there by median and MAD; the
    threshold is no higher than the score that a `KNOWN_SHARE` of the budget of them exceeds, or the smallest share that so few of
    them can promise, up to the budget. It is never lowered beneath more scores than the budget and the expected defects are, and
    stays where there are too few known goods to promise the budget.

    Args:
        scores: (n,) the reference.
        doubt: what is known of it.
        fpr_budget: accepted share of rejected good images.

    Raises:
        TooFewImages, DetectorError: as `conformal_threshold`.
    """
    usual = conformal_threshold(scores, fpr_budget=fpr_budget, n_above=doubt.n_above)
    if doubt.known.size < MIN_REFERENCE or not doubt.n_defects:
        return usual
    most = conformal_threshold(doubt.known, fpr_budget=KNOWN_SHARE * fpr_budget)
    known_centre, known_spread = robust(doubt.known)
    if most.promised_fpr > fpr_budget + 1e-12 or most.value <= known_centre:
        return usual
    centre, spread = robust(scores)
    limit = centre + (most.value - known_centre) * spread / known_spread
    return _lowered(usual, scores, limit, fpr_budget=fpr_budget, n_defects=doubt.n_defects, n_above=doubt.n_above)


def threshold_with_defects(scores: NDArray[np.float64], n_defects: int, *, fpr_budget: float) -> Threshold:
    """`conformal_threshold` of a reference of which so many of the highest scores are taken for defects'."""
    usual = conformal_threshold(scores, fpr_budget=fpr_budget)
    return _lowered(usual, scores, -math.inf, fpr_budget=fpr_budget, n_defects=n_defects, n_above=0)


def n_taken_for_defects(scores: NDArray[np.float64], threshold: float, *, fpr_budget: float) -> int:
    """How many scores of a reference lie above its threshold besides those that the budget explains.

    >>> n_taken_for_defects(np.arange(1.0, 101.0), 90.0, fpr_budget=0.05)
    6
    """
    rank = min(scores.size, math.ceil((scores.size + 1) * (1.0 - fpr_budget) - 1e-9))
    return max(0, int((scores > threshold).sum()) - (scores.size - rank))


def _lowered(
    usual: Threshold, scores: NDArray[np.float64], limit: float, *, fpr_budget: float, n_defects: int, n_above: int
) -> Threshold:
    """At the limit, but above no more scores than the budget and ``n_defects`` are, and never above `usual`."""
    share = min(fpr_budget + n_defects / scores.size, 0.5)
    least = conformal_threshold(scores, fpr_budget=share, n_above=n_above).value
    value = min(usual.value, max(limit, least))
    n_all = scores.size + n_above
    rejected = (int((scores > value).sum()) + n_above + 1) / (n_all + 1)
    return Threshold(value, max(usual.promised_fpr, rejected) if value < usual.value else usual.promised_fpr)


def robust(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Median, and the standard deviation that the median absolute deviation stands for; (n,), n ≥ 1."""
    centre = float(np.median(scores))
    spread = MAD_TO_SD * float(np.median(np.abs(scores - centre)))
    return centre, spread if spread > 0.0 else float(scores.std()) or 1.0


def n_folds_of(n_images: int) -> int:
    """How many folds a cross-fit of so many images has.

    >>> [n_folds_of(n) for n in (20, 100, 150, 300, 5000)]
    [20, 30, 20, 10, 10]
    """
    return min(max(IMAGES_TIMES_FOLDS // n_images, MIN_FOLDS), MAX_FOLDS, n_images)


def fold_of(n_images: int, *, n_folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A fold number for every image, (n,), folds as equal as can be, drawn by ``rng``."""
    folds = np.arange(n_images, dtype=np.int64) % n_folds
    rng.shuffle(folds)
    return folds


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Which images a trained family learns from, which say what is normal, and which of these tell when to stop and how to scale.

    Attributes:
        fitted: in order.
        reference: in order.
        validation: at most `USUAL_REFERENCE` of the reference, evenly among them.
    """

    fitted: NDArray[np.int64]
    reference: NDArray[np.int64]

    @property
    def validation(self) -> NDArray[np.int64]:
        return evenly(self.reference, USUAL_REFERENCE)


def evenly(images: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of them, evenly among them.

    >>> evenly(np.arange(10), 4)
    array([0, 3, 6, 9])
    """
    n = len(images)
    return images[np.linspace(0, n - 1, min(n, most)).round().astype(np.int64)]


def n_held_out(n_images: int, *, n_new: int, warm: bool = False) -> int:
    """How many images of a fit are held out for the reference; the other new ones, which should not be too few, are learned from.

    A warm start holds out what it does not need to learn from, rounded down to what promises the usual budget exactly.

    >>> [n_held_out(n, n_new=n) for n in (35, 100, 180, 300, 1000, 5000)]
    [20, 33, 60, 99, 200, 300]
    >>> [n_held_out(n, n_new=n, warm=True) for n in (35, 100, 180, 200, 300, 500)]
    [20, 33, 80, 99, 199, 299]
    >>> n_held_out(257, n_new=57), n_held_out(300, n_new=150)
    (28, 99)
    >>> n_held_out(500, n_new=250, warm=True)
    99
    """
    to_spare = max(n_new // 2, n_new - LEAST_NEW)
    wanted = min(max(USUAL_REFERENCE, round(REFERENCE_SHARE * n_images)), n_images // 3)
    if warm:
        wanted = max(wanted, n_new - WARM_FITTED)
    wanted = min(wanted, to_spare, MOST_REFERENCE)
    if warm and wanted >= USUAL_REFERENCE:
        wanted -= (wanted + 1) % (USUAL_REFERENCE + 1)
    return max(MIN_REFERENCE, wanted)


def hold_out(n_images: int, *, seed: int, seen: NDArray[np.bool_] | None = None, warm: bool = False) -> HeldOut:
    """Draw the reference of a family for which cross-fitting is too dear.

    Args:
        n_images: to fit.
        seed: of the draw.
        seen: (n_images,) bool, images that the training's start has learned from; they are fitted on.
        warm: whether the training goes on from another.

    Raises:
        TooFewImages: after taking the reference away less than `LEAST_FITTED` remain, or too few images are unseen.
    """
    eligible = np.arange(n_images) if seen is None else np.flatnonzero(~seen)
    n = n_held_out(n_images, n_new=len(eligible), warm=warm)
    if n_images - n < LEAST_FITTED or len(eligible) < n:
        raise TooFewImages(
            f"{n_images} images, {len(eligible)} of them new; expected at least {MIN_REFERENCE + LEAST_FITTED} for a "
            f"detector that is trained, {n} of them new for its reference",
            hint="give more good images to fit, or use padim or patchcore",
        )
    reference = np.sort(np.random.default_rng(seed).choice(eligible, n, replace=False)).astype(np.int64)
    return HeldOut(np.setdiff1d(np.arange(n_images, dtype=np.int64), reference), reference)
