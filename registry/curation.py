"""Choosing the fresh good images that a retrain may learn from, and saying of each other one why not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halfsigma import TooFewImages

MIN_FRESH = 50
"""With fewer, the new reference's standard deviation is known to worse than ± 10 %."""
MAX_FRESH = 500
"""More images cost time and memory and add little to a coreset."""
TWIN_DIFFERENCE = 0.25 / 255
"""Mean absolute difference of two small gray images: sensor noise alone makes distinct photographs differ by more."""
SECOND_Z = 5.0
"""Robust standard deviations beyond which no good image of a well-behaved line lies."""
SECOND_MARGIN = 1.2
"""Times the farthest verified good of the champion's reference: lines differ in how far out their rare goods lie."""
MAX_SECOND_SHARE = 0.05
"""More are no exceptions but a second kind of good part."""
MAD_TO_SD = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image of the nights that a retrain may learn from."""

    sha256: str
    path: str
    score: float
    """By the champion."""
    label: str | None
    """``good``, ``defect`` or None."""


@dataclass(frozen=True, slots=True)
class Curation:
    """What was chosen, what was left out and why.

    Attributes:
        chosen: to learn from, in the candidates' order.
        left_out: SHA-256 → reason.
        limit: the champion's score above which an unlabelled image counts as suspect, the drift taken away; infinite
            when none was asked to go.
    """

    chosen: tuple[Candidate, ...]
    left_out: Mapping[str, str]
    limit: float


def curate(
    candidates: Sequence[Candidate],
    *,
    reference_scores: NDArray[np.float64],
    threshold: float,
    defect_share: float,
    fpr_budget: float,
    small_images: Mapping[str, NDArray[np.float32]],
    seed: int,
) -> Curation:
    """The candidates without defects, suspects, broken files and near-duplicates, at most `MAX_FRESH`.

    A suspect is an image that the champion would reject if tonight's scores were brought back, by median and median
    absolute deviation, to where the reference lies: a drifted night may be rejected whole, and its good images are
    wanted all the same. No more suspects go than the estimated share of defects and the false-positive budget ask
    for: a greedy coreset lives on rare goods. Images that a person called good stay.

    Args:
        candidates: in capture order.
        reference_scores: (n,) the champion's.
        threshold: the champion's.
        defect_share: estimated by the check, 0…1.
        fpr_budget: of the line.
        small_images: SHA-256 → (128, 128) gray of each readable candidate; an image that is missing here is left out
            as unreadable.
        seed: of the draw when there are more than `MAX_FRESH`.

    Raises:
        TooFewImages: fewer than `MIN_FRESH` remain; the message says how many are missing.
    """
    left_out: dict[str, str] = {}
    readable = []
    for candidate in candidates:
        if candidate.label == "defect":
            left_out[candidate.sha256] = "a person called it a defect"
        elif candidate.sha256 not in small_images:
            left_out[candidate.sha256] = "the file is gone, altered or unreadable"
        else:
            readable.append(candidate)
    distinct = _without_twins(readable, small_images, left_out)
    limit = _suspect_limit(distinct, reference_scores, threshold)
    kept = _without_suspects(distinct, limit, math.ceil((defect_share + fpr_budget) * len(distinct) - 1e-9), left_out)
    if len(kept) > MAX_FRESH:
        drawn = np.random.default_rng(seed).choice(len(kept), MAX_FRESH, replace=False)
        for index in set(range(len(kept))) - set(drawn.tolist()):
            left_out[kept[index].sha256] = f"not drawn: {MAX_FRESH} are enough"
        kept = [kept[index] for index in sorted(drawn.tolist())]
    if len(kept) < MIN_FRESH:
        raise TooFewImages(
            f"{len(kept)} fresh good images of {len(candidates)}, expected at least {MIN_FRESH}: "
            f"{MIN_FRESH - len(kept)} are missing",
            hint="ingest more of these nights' images, or wait for the next night",
        )
    return Curation(tuple(kept), left_out, limit)


def second_look(
    scores: NDArray[np.float64], *, reference_scores: NDArray[np.float64], cleared: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Which images a model of the new conditions, fitted on the others, finds far outside: indices, ascending.

    The champion cannot tell a defect from a good part of a drifted night; the challenger's own cross-fitted scores can.
    One defect in the reference is enough to lift a threshold of 1 % of 150 images to where it catches nothing. How far
    out rare goods lie is learned from the champion's verified ones, since trimming those would cost more than it saves.

    Args:
        scores: (n,) cross-fitted by the challenger, of the curated images.
        reference_scores: (m,) the champion's, of verified goods.
        cleared: (n,) whether a person called the image good; those stay.
    """
    centre, spread = _robust(scores)
    reference_centre, reference_spread = _robust(reference_scores)
    farthest = (float(reference_scores.max()) - reference_centre) / reference_spread
    limit = centre + max(SECOND_Z, SECOND_MARGIN * farthest) * spread
    n_most = math.floor(MAX_SECOND_SHARE * scores.size)
    worst = np.argsort(-scores, kind="stable")[:n_most]
    return np.sort(worst[(scores[worst] > limit) & ~cleared[worst]])


def _without_twins(
    candidates: Sequence[Candidate], small_images: Mapping[str, NDArray[np.float32]], left_out: dict[str, str]
) -> list[Candidate]:
    """Each image against the ones kept just before it: a frozen or slow camera repeats itself in a row."""
    kept: list[Candidate] = []
    seen: set[str] = set()
    for candidate in candidates:
        if candidate.sha256 in seen:
            continue
        seen.add(candidate.sha256)
        small = small_images[candidate.sha256]
        if any(float(np.abs(small - small_images[k.sha256]).mean()) < TWIN_DIFFERENCE for k in kept[-_LOOK_BACK:]):
            left_out[candidate.sha256] = "nearly the same picture as one just before it"
        else:
            kept.append(candidate)
    return kept


_LOOK_BACK = 20


def _suspect_limit(candidates: Sequence[Candidate], reference_scores: NDArray[np.float64], threshold: float) -> float:
    scores = np.array([candidate.score for candidate in candidates])
    if scores.size == 0:
        return math.inf
    centre, spread = _robust(scores)
    reference_centre, reference_spread = _robust(reference_scores)
    return float(centre + (threshold - reference_centre) * spread / reference_spread)


def _without_suspects(
    candidates: Sequence[Candidate], limit: float, n_most: int, left_out: dict[str, str]
) -> list[Candidate]:
    suspects = [each for each in candidates if each.score > limit and each.label != "good"]
    worst = {each.sha256 for each in sorted(suspects, key=lambda each: -each.score)[:n_most]}
    for sha256 in worst:
        left_out[sha256] = "suspect: it scores high even when tonight's drift is taken away"
    return [each for each in candidates if each.sha256 not in worst]


def _robust(scores: NDArray[np.float64]) -> tuple[float, float]:
    centre = float(np.median(scores))
    spread = MAD_TO_SD * float(np.median(np.abs(scores - centre)))
    return centre, spread if spread > 0.0 else float(scores.std()) or 1.0
