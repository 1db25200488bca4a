"""Choosing the fresh good images that a retrain may learn from, and saying of each other one why not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from detectors.calibration import conformal_threshold, robust
from halfsigma import TooFewImages
from registry.coverage import spread_out
from registry.suspicion import Suspicion

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
MAX_UNSEEN_SHARE = 0.05
"""A night of which more is expected to be defective is learned from when a person has looked at what is most suspicious."""
SUSPECT = "suspect"
"""How the reason begins for which a suspect is left out."""
HELD_BACK_SHARE = 0.04
"""Of the images, besides the estimated share of defects: the most suspicious ones are not learned from where verified goods are
learned from as well. What is rare among goods comes from those; a defect that looks like a rare good comes from nowhere."""
SAID_SHARE = 0.2
"""Of the images, more of them are held back if all that a person looked at were defects; in proportion if some were."""
N_TO_LOOK_AT = 20
"""So many images a person looks at in a minute."""
UNSEEN_ODDS = 2.0
"""Times the odds of a defect among the images that a person looked at, times their number: more defects than that are not
expected. Chosen on two nights of bricks (docs/decisions/curation.md)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image of the nights that a retrain may learn from."""

    sha256: str
    path: str
    score: float
    """By the champion."""
    label: str | None
    """``good``, ``defect`` or None."""
    captured_at: datetime | None = None
    fault: str = ""
    """Why no part explains the picture: ``black``, ``saturated``, ``wrong_size``; empty for a picture of a part."""


@dataclass(frozen=True, slots=True)
class Curation:
    """What was chosen, what was left out and why.

    Attributes:
        chosen: to learn from, in the candidates' order.
        left_out: SHA-256 → reason.
        limit: the lowest score of the judge that made an image suspect; infinite where none was.
        suspicion: who judged, and every readable image's score.
        defect_share: of the night, as estimated.
        to_look_at: the most suspicious images, whatever people said of them, the worst first.
        waits: why the night is not learned from until a person has looked; empty when it is.
    """

    chosen: tuple[Candidate, ...]
    left_out: Mapping[str, str]
    limit: float
    suspicion: Suspicion
    defect_share: float = 0.0
    n_perhaps_good: int = 0
    """Suspects that may be good: the threshold must not profit from their absence."""
    n_defects: int = 0
    """Expected among those chosen, held back or not."""
    held_back: frozenset[str] = frozenset()
    """SHA-256 of those chosen that are not learned from, but stand in the reference: most of them are good."""
    to_look_at: tuple[Candidate, ...] = field(default=())
    waits: str = ""


def curate(
    candidates: Sequence[Candidate],
    *,
    reference_scores: NDArray[np.float64],
    threshold: float,
    defect_share: float,
    fpr_budget: float,
    small_images: Mapping[str, NDArray[np.float32]],
    seed: int,
    judge: Suspicion | None = None,
    has_core: bool = False,
) -> Curation:
    """The candidates without defects, suspects, broken files and near-duplicates, at most `MAX_FRESH`.

    A judge that knows tonight's conditions calls suspects what lies beyond the threshold that the known goods give it, at
    the line's budget, brought to where tonight's scores lie. The next most suspicious images are held back:
    `HELD_BACK_SHARE` and the estimated share of defects, and more if people found many defects among the worst. Where they looked
    at all of these and found few, the estimate is no higher than that allows.

    Where the champion judges, suspects are the images that score highest, as many as the estimated share of defects and the
    false-positive budget ask for, those that a person called defects counted in, and beyond its threshold when tonight's
    scores are brought back, by median and median absolute deviation, to where the reference lies: a drifted night may be
    rejected whole, and the champion cannot tell what of it is rare and what is defective; a greedy coreset lives on rare
    goods. Nothing is held back.

    Images that a person called good are learned from.

    A night of which surely more than `MAX_UNSEEN_SHARE` are defects waits until a person has said of each of the `N_TO_LOOK_AT` most
    suspicious images what it is.

    Args:
        candidates: in capture order.
        reference_scores: (n,) the champion's.
        threshold: the champion's.
        defect_share: estimated by the check, 0…1.
        fpr_budget: of the line.
        small_images: SHA-256 → (128, 128) gray of each readable candidate; an image that is missing here is left out
            as unreadable.
        seed: of the choice when there are too many.
        judge: scores by a model that knows the new conditions; the champion's where there is none.
        has_core: whether verified goods are learned from besides.

    Raises:
        TooFewImages: fewer than `MIN_FRESH` remain; the message says how many are missing.
    """
    knows_tonight = judge is not None
    if judge is None:
        scores = {each.sha256: each.score for each in candidates if each.sha256 in small_images}
        judge = Suspicion(scores, reference_scores, "the champion")
    left_out: dict[str, str] = {}
    readable = []
    for candidate in candidates:
        if candidate.label == "defect":
            left_out[candidate.sha256] = "a person called it a defect"
        elif candidate.sha256 not in small_images:
            left_out[candidate.sha256] = "the file is gone, altered or unreadable"
        elif candidate.fault:
            left_out[candidate.sha256] = f"no picture of a part: {candidate.fault.replace('_', ' ')}"
        else:
            readable.append(candidate)
    defects = [each for each in candidates if each.label == "defect"]
    readable = _without_copies_of(defects, candidates, readable, small_images, left_out)
    distinct = _without_twins(readable, small_images, left_out)
    known = len({each.sha256 for each in defects})
    to_look_at = most_suspicious(candidates, judge)
    if knows_tonight:  # the champion's tail, from which the check estimates, widens with the drift
        among = _among(judge, [*distinct, *defects])
        defect_share, sure_share = among.defect_share(), among.surely_defective()
        defect_share = min(defect_share, _most_defects(to_look_at) / max(len(distinct) + known, 1))
        limit = among.limit(conformal_threshold(judge.usual, fpr_budget=fpr_budget).value)
        kept = _without_suspects(distinct, judge, limit, len(distinct), left_out)
        n_perhaps_good = min(len(distinct) - len(kept), math.ceil(fpr_budget * len(distinct)))
    else:
        limit, sure_share = _among(judge, distinct).limit(threshold), defect_share
        n_most = math.ceil((defect_share + fpr_budget) * (len(distinct) + known) - 1e-9) - known
        kept = _without_suspects(distinct, judge, limit, max(n_most, 0), left_out)
        n_sure = max(round(sure_share * (len(distinct) + known)) - known, 0)
        n_perhaps_good = max(len(distinct) - len(kept) - n_sure, 0)
    n_gone = len(distinct) - len(kept) + known
    n_defects = max(math.ceil(defect_share * (len(distinct) + known) - 1e-9) - n_gone, 0)
    limit = min(
        (judge.scores[each] for each, reason in left_out.items() if reason.startswith(SUSPECT)), default=math.inf
    )
    share = min(MAX_FRESH / max(len(kept), 1), 1.0)  # all that was counted above is of the whole nights
    n_perhaps_good, n_defects = math.ceil(share * n_perhaps_good), math.ceil(share * n_defects)
    if len(kept) > MAX_FRESH:
        kept = _spread_out(kept, small_images, MAX_FRESH, seed, left_out)
    if len(kept) < MIN_FRESH:
        raise TooFewImages(
            f"{len(kept)} fresh good images of {len(candidates)}, expected at least {MIN_FRESH}: "
            f"{MIN_FRESH - len(kept)} are missing",
            hint="ingest more of these nights' images, or wait for the next night",
        )
    held_back: frozenset[str] = frozenset()
    if knows_tonight and has_core:
        said = SAID_SHARE * sum(each.label == "defect" for each in to_look_at) / N_TO_LOOK_AT
        wanted = math.ceil((HELD_BACK_SHARE + defect_share + said) * (len(distinct) + known)) - n_gone
        held_back = _held_back(kept, judge, min(math.ceil(share * wanted), len(kept) - MIN_FRESH))
    return Curation(
        tuple(kept),
        left_out,
        limit,
        judge,
        defect_share=defect_share,
        n_perhaps_good=n_perhaps_good,
        n_defects=n_defects,
        held_back=held_back,
        to_look_at=to_look_at,
        waits=_waits(sure_share, to_look_at),
    )


def most_suspicious(candidates: Sequence[Candidate], judge: Suspicion) -> tuple[Candidate, ...]:
    """The `N_TO_LOOK_AT` images with the highest scores of the judge, each once; what people said changes nothing in it."""
    judged = {each.sha256: each for each in candidates if each.sha256 in judge.scores and not each.fault}
    return tuple(sorted(judged.values(), key=lambda each: -judge.scores[each.sha256])[:N_TO_LOOK_AT])


def _most_defects(looked_at: Sequence[Candidate]) -> float:
    """How many defects there can be in all, after what people said of the most suspicious images; infinite until they said it of each."""
    if any(each.label is None for each in looked_at):
        return math.inf
    n_defects = sum(each.label == "defect" for each in looked_at)
    return UNSEEN_ODDS * len(looked_at) * (n_defects + 1) / (len(looked_at) - n_defects + 1)


def _among(judge: Suspicion, candidates: Sequence[Candidate]) -> Suspicion:
    scores = {each.sha256: judge.scores[each.sha256] for each in candidates if each.sha256 in judge.scores}
    return replace(judge, scores=scores)


def _waits(sure_share: float, to_look_at: Sequence[Candidate]) -> str:
    n_unseen = sum(each.label is None for each in to_look_at)
    if sure_share <= MAX_UNSEEN_SHARE or not n_unseen:
        return ""
    return (
        f"at least {sure_share:.0%} of these images seem to be defective, more than {MAX_UNSEEN_SHARE:.0%}: a person has to "
        f"label the {len(to_look_at)} most suspicious ones, {n_unseen} of them are not labelled yet"
    )


def _held_back(kept: Sequence[Candidate], judge: Suspicion, n: int) -> frozenset[str]:
    """The ``n`` most suspicious of them that nobody called good."""
    doubtful = sorted((each.sha256 for each in kept if each.label != "good"), key=lambda sha256: -judge.scores[sha256])
    return frozenset(doubtful[: max(n, 0)])


def _spread_out(
    kept: Sequence[Candidate],
    small_images: Mapping[str, NDArray[np.float32]],
    n: int,
    seed: int,
    left_out: dict[str, str],
) -> list[Candidate]:
    """What a person called good is always among them."""
    cleared = [index for index, each in enumerate(kept) if each.label == "good"][:n]
    others = [index for index in range(len(kept)) if index not in set(cleared)]
    if n > len(cleared):
        pictures = [small_images[kept[i].sha256] for i in others]
        drawn = spread_out(pictures, [kept[i].captured_at for i in others], n - len(cleared), seed=seed)
        cleared += [others[i] for i in drawn]
    chosen = sorted(cleared)
    for index in set(range(len(kept))) - set(chosen):
        left_out[kept[index].sha256] = f"not needed: {MAX_FRESH} that show all of it are enough"
    return [kept[index] for index in chosen]


def second_look(
    scores: NDArray[np.float64],
    *,
    own_reference: NDArray[np.float64],
    reference_scores: NDArray[np.float64],
    cleared: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Which images a model of the new conditions, fitted on the others, finds far outside: indices, ascending.

    The champion cannot tell a defect from a good part of a drifted night; the challenger's own cross-fitted scores can.
    One defect in the reference is enough to lift a threshold of 1 % of 150 images to where it catches nothing. How far
    out rare goods lie is learned from the champion's verified ones, since trimming those would cost more than it saves.

    Args:
        scores: (n,) by the challenger, of the curated images; of those that stand in its reference as they stand there.
        own_reference: (k,) the challenger's. What a trained challenger learned from lies closer together.
        reference_scores: (m,) the champion's, without what was taken for defects in its reference.
        cleared: (n,) whether a person called the image good; those stay.
    """
    centre, spread = robust(own_reference)
    reference_centre, reference_spread = robust(reference_scores)
    farthest = (float(reference_scores.max()) - reference_centre) / reference_spread
    limit = centre + max(SECOND_Z, SECOND_MARGIN * farthest) * spread
    n_most = math.floor(MAX_SECOND_SHARE * scores.size)
    worst = np.argsort(-scores, kind="stable")[:n_most]
    return np.sort(worst[(scores[worst] > limit) & ~cleared[worst]])


def _without_copies_of(
    defects: Sequence[Candidate],
    candidates: Sequence[Candidate],
    readable: Sequence[Candidate],
    small_images: Mapping[str, NDArray[np.float32]],
    left_out: dict[str, str],
) -> list[Candidate]:
    """What a frozen camera took again of a part that a person called defective is that part, unless they called it good."""
    place = {each.sha256: index for index, each in enumerate(candidates)}
    known = [each for each in defects if each.sha256 in small_images]

    def is_copy(image: Candidate) -> bool:
        return image.label != "good" and any(
            abs(place[image.sha256] - place[each.sha256]) <= _LOOK_BACK
            and float(np.abs(small_images[image.sha256] - small_images[each.sha256]).mean()) < TWIN_DIFFERENCE
            for each in known
        )

    copies = {each.sha256 for each in readable if is_copy(each)}
    for sha256 in copies:
        left_out[sha256] = "nearly the same picture as one that a person called a defect"
    return [each for each in readable if each.sha256 not in copies]


def _without_twins(
    candidates: Sequence[Candidate], small_images: Mapping[str, NDArray[np.float32]], left_out: dict[str, str]
) -> list[Candidate]:
    """Each image against the ones kept just before it: a frozen or slow camera repeats itself in a row.

    The first is kept, but of those that a person called good, if there are any.
    """
    kept: list[Candidate] = []
    seen: set[str] = set()
    for candidate in candidates:
        if candidate.sha256 in seen:
            continue
        seen.add(candidate.sha256)
        small = small_images[candidate.sha256]
        twins = [k for k in kept[-_LOOK_BACK:] if np.abs(small - small_images[k.sha256]).mean() < TWIN_DIFFERENCE]
        if twins and (candidate.label != "good" or any(k.label == "good" for k in twins)):
            left_out[candidate.sha256] = "nearly the same picture as one just before it"
            continue
        for twin in twins:
            left_out[twin.sha256] = "nearly the same picture as one that a person called good"
            kept.remove(twin)
        kept.append(candidate)
    return kept


_LOOK_BACK = 20


def _without_suspects(
    candidates: Sequence[Candidate], judge: Suspicion, limit: float, n_most: int, left_out: dict[str, str]
) -> list[Candidate]:
    suspects = [each for each in candidates if judge.scores[each.sha256] > limit and each.label != "good"]
    worst = {each.sha256 for each in sorted(suspects, key=lambda each: -judge.scores[each.sha256])[:n_most]}
    for sha256 in worst:
        left_out[sha256] = f"{SUSPECT}: to {judge.judge} it scores high even when tonight's drift is taken away"
    return [each for each in candidates if each.sha256 not in worst]
