"""Champion and challenger side by side on the same images: what the gates are asked."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import cast

import numpy as np
from numpy.typing import NDArray

from detectors.defects.synthetic import random_defect
from detectors.photographs.images import Pixels
from detectors.protocol import Progress, no_progress
from detectors.version import DetectorVersion
from drift.reference import Reference
from drift.verdict import measure
from drift.window import Window
from halfsigma import DetectorError, TooFewImages
from registry.contrast import contrast_gate
from registry.gates import (
    Gate,
    detection_gate,
    false_positives_gate,
    kinds_gate,
    labels_gate,
    latency_gate,
    round_trip_gate,
    shift_gate,
)
from registry.recall import recall_gate, recall_limit

ROUND_TRIP_IMAGES = 5
LEAST_GOLDEN_LEFT = 0.8
"""Of the labelled defects; where the files of more are gone, what is left may be one kind alone."""
LATENCY_IMAGES, LATENCY_ROUNDS = 20, 3
"""Other programs that begin in between are over by the third round, or slow both."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The versions and images of one trial.

    Attributes:
        champion: what is deployed.
        challenger: what would be, learned from every curated image.
        reloaded: the challenger, saved and loaded again.
        twin: fitted as the challenger, but without ``probes``, so that they are new to it.
        probes: fresh good photographs; read one after the other, several times: they need not be in memory at once.
        golden: labelled defects of the line with their kinds (``""`` where nobody named one), possibly none; None in place of one
            whose file is gone.
        least_labels: how many labelled defects the line asks for.
        least_probes: of fewer that can still be read nothing is said.
        fitted_scores: of the first probes by the challenger as it was fitted, before it was ever saved; without them
            the round trip is that of ``challenger``.
    """

    champion: DetectorVersion
    challenger: DetectorVersion
    reloaded: DetectorVersion
    twin: DetectorVersion
    probes: Iterable[Pixels]
    golden: Iterable[tuple[Pixels | None, str]]
    fitted_scores: Sequence[float] | None = None
    least_labels: int = 0
    least_probes: int = 1


def run_trial(
    trial: Trial,
    *,
    night: date,
    fpr_budget: float,
    latency_budget_ms: float | None,
    seed: int,
    progress: Progress = no_progress,
) -> list[Gate]:
    """Every gate with its figure, passed or not.

    The twin stands in for the challenger wherever an image must be new: the recipe is what is tried.

    Raises:
        TooFewImages: fewer probes than `Trial.least_probes` can be read.
        DetectorError: a score is not finite.
    """
    rng = np.random.default_rng(seed)
    judged = []
    for pixels in trial.probes:  # one at a time: 150 of 20 megapixels, twice, are more than a machine's memory
        pair = (pixels, random_defect(pixels, rng, white_level=trial.champion.white_level).image)
        judged.append([version.score(each).score for version in (trial.champion, trial.twin) for each in pair])
    if len(judged) < trial.least_probes:
        raise TooFewImages(
            f"{len(judged) or 'none'} of the fresh images can be read any more, expected at least {trial.least_probes}",
            hint="put the night's folder back",
        )
    champion_good, champion_defect, twin_good, twin_defect = _finite(judged).T
    progress("gates", 2, 3)
    n_rejected = int((twin_good > trial.twin.threshold.value).sum())
    passed = [
        false_positives_gate(
            n_rejected,
            twin_good.size,
            promised_fpr=trial.twin.threshold.promised_fpr,
            n_reference=trial.twin.reference_scores.size,
            budget=fpr_budget,
        ),
        detection_gate(
            "synthetic_auroc",
            champion_good=champion_good,
            champion_defect=champion_defect,
            challenger_good=twin_good,
            challenger_defect=twin_defect,
            seed=seed,
            is_painted=twin_defect.size == twin_good.size,
        ),
        _shift(trial.twin, twin_good, night=night),
        _latency(trial, budget_ms=latency_budget_ms),
        _round_trip(trial),
    ]
    passed[2:2] = _golden(trial, champion_good, twin_good)
    progress("gates", 3, 3)
    return passed


def _golden(trial: Trial, champion_good: NDArray[np.float64], twin_good: NDArray[np.float64]) -> list[Gate]:
    """The gates on labelled defects; places among fresh goods are the twin's, since the challenger knows the goods."""
    champion = trial.champion
    limit = recall_limit(
        champion.threshold.value,
        champion_good,
        promised_fpr=champion.threshold.promised_fpr,
        n_reference=champion.reference_scores.size,
    )
    caught, placed, kinds, n_gone = [], [], [], 0
    for pixels, kind in trial.golden:
        if pixels is None:
            n_gone += 1
            continue
        judged = [version.score(pixels) for version in (champion, trial.challenger, trial.twin)]
        caught.append([judged[0].score > limit, judged[1].rejected])
        placed.append([judged[0].score, judged[2].score])
        kinds.append(kind)
    least = max(trial.least_labels, math.ceil(LEAST_GOLDEN_LEFT * (len(caught) + n_gone)))
    asked = trial.least_labels or len(caught) < least
    gates = [labels_gate(len(caught), least=least, n_gone=n_gone)] if asked else []
    if not caught:
        return gates
    recalls, scores = np.array(caught), _finite(placed)
    judged_by_both = {
        "champion_good": champion_good,
        "champion_defect": scores[:, 0],
        "challenger_good": twin_good,
        "challenger_defect": scores[:, 1],
    }
    gates += [recall_gate(recalls[:, 0], recalls[:, 1]), kinds_gate(**judged_by_both, kinds=kinds)]
    contrast = contrast_gate(**judged_by_both, kinds=kinds)
    return gates if contrast is None else [*gates, contrast]


def _finite(scores: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """As an array. A NaN is above no limit: every gate would let it through."""
    found = np.array(scores, np.float64)
    if not np.isfinite(found).all():
        raise DetectorError(
            f"{int((~np.isfinite(found)).sum())} of {found.size} scores of champion and twin are not finite",
            hint="the challenger is not promoted; look at the night's images, or fit the line anew",
        )
    return found


def _scores(version: DetectorVersion, images: Sequence[Pixels]) -> NDArray[np.float64]:
    return np.array([version.score(pixels).score for pixels in images], np.float64)


def _shift(twin: DetectorVersion, scores: NDArray[np.float64], *, night: date) -> Gate:
    """A grown twin's probes are of the added condition alone, so they are held against the added part of its reference."""
    n_added = cast("int", twin.provenance.get("n_added", twin.reference_scores.size))
    reference = Reference(twin.reference_scores[-n_added:])
    measured = measure(reference, [Window(night=night, scores=scores)]).tonight
    if measured is None:
        return shift_gate(0.0, -np.inf, np.inf)
    return shift_gate(measured.estimate, measured.low, measured.high)


def _latency(trial: Trial, *, budget_ms: float | None) -> Gate:
    """Alternating, so that a busy machine is busy for both; and again where it fails, since another program may have begun
    in between: what is slow stays slow."""
    for _ in range(LATENCY_ROUNDS):
        times: dict[str, list[float]] = {"champion": [], "challenger": []}
        for pixels in islice(trial.probes, LATENCY_IMAGES):
            for name, version in (("champion", trial.champion), ("challenger", trial.reloaded)):
                started = time.perf_counter()
                version.score(pixels)
                times[name].append((time.perf_counter() - started) * 1e3)
        gate = latency_gate(times["challenger"], times["champion"], budget_ms=budget_ms)
        if gate.passed:
            break
    return gate


def _round_trip(trial: Trial) -> Gate:
    few = list(islice(trial.probes, ROUND_TRIP_IMAGES))
    fitted = trial.fitted_scores
    before = np.array(fitted, np.float64) if fitted is not None else _scores(trial.challenger, few)
    return round_trip_gate(before, _scores(trial.reloaded, few))
