"""The conditions that a challenger must meet before it can become champion, each with its figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from scipy.stats import betabinom, binom, norm

DETECTION_MARGIN = 0.02
"""AUROC that a challenger may lose against the champion on the same images."""
MAX_SHIFT_SD = 0.5
"""Half a sigma: with more, tomorrow's check would call drift at once."""
LATENCY_FACTOR = 1.5
"""Against the champion in the same minutes, where the line states no budget."""
CONFIDENCE = 0.95
CHANCE_OF_REJECTIONS = 0.01
"""A good challenger is refused for its false positives once in a hundred retrains."""
KIND_MARGIN = 0.05
"""Share of the fresh goods by which a kind of labelled defects may sink among them."""
KIND_CONFIDENCE = 0.99
"""An equal challenger is refused for a kind once in a hundred retrains."""
PLACE_NOISE = 0.1
"""Standard deviation of a defect's place between two equal fits: benchmarks/gates_on_tiles.py measures 0.09 to 0.10."""
KIND_NOISE = 0.03
"""The same of a kind's mean place, which more images of the kind do not make smaller: what the two were fitted on differs."""
MOST_LOSS = 0.5
"""A defect that sank below half of the goods is lost; how far below says no more."""
N_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition: what was measured, what was allowed, and what it means."""

    name: str
    passed: bool
    value: float
    limit: float
    reason: str

    def to_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "passed": self.passed,
            "value": self.value,
            "limit": self.limit,
            "reason": self.reason,
        }


def false_positives_gate(n_rejected: int, n_good: int, *, promised_fpr: float, n_reference: int, budget: float) -> Gate:
    """Fresh goods, never fitted on, are not rejected more often than the threshold promises, as far as so few can tell.

    The threshold is itself an order statistic of a small reference: with n scores and a promise of a/(n + 1), the number
    of rejections among m new goods is beta-binomial(m, a, n + 1 − a) (Vovk 2012, "Conditional validity of inductive
    conformal predictors"). Fails when so many would come by chance with less than `CHANCE_OF_REJECTIONS`.

    Args:
        n_rejected: of the fresh goods.
        n_good: fresh goods tried.
        promised_fpr: by the threshold.
        n_reference: scores that the threshold was taken from.
        budget: the line's; shown.
    """
    above = promised_fpr * (n_reference + 1)
    chance = betabinom(n_good, above, n_reference + 1 - above)
    p = float(chance.sf(n_rejected - 1))
    most = int(chance.isf(CHANCE_OF_REJECTIONS))
    return Gate(
        "false_positives",
        p >= CHANCE_OF_REJECTIONS,
        n_rejected / n_good,
        most / n_good,
        f"{n_rejected} of {n_good} fresh goods are rejected; with a budget of {budget:.1%} and {n_reference} reference "
        f"images as many or more come by chance with p = {p:.3f}",
    )


def live_false_positives_gate(
    n_rejected: int,
    n_judged: int,
    *,
    promised_fpr: float,
    n_reference: int,
    defect_share: float,
    chance: float = CHANCE_OF_REJECTIONS,
) -> Gate:
    """On live nights no more is rejected than the threshold promises and the line's usual defects bring.

    As `false_positives_gate`, with an independent binomial of the line's defects added: nobody has labelled a live night.

    Args:
        n_rejected: of the live images, labelled defects left out.
        n_judged: live images, labelled defects left out.
        promised_fpr: by the threshold.
        n_reference: scores that the threshold was taken from.
        defect_share: usual share of defects among what this line photographs, 0…1.
        chance: with which a good version may be refused.
    """
    above = promised_fpr * (n_reference + 1)
    goods = betabinom(n_judged, above, n_reference + 1 - above)
    defects = binom(n_judged, defect_share)
    counts = np.arange(n_judged + 1)
    # errs by 1e-15; a direct sum takes minutes of 10⁶ images
    both = fftconvolve(goods.pmf(counts), defects.pmf(counts)).clip(0.0)
    tails = both[::-1].cumsum()[::-1]  # P(total ≥ k), k = 0 … 2n
    p = float(tails[n_rejected])
    most = int(np.flatnonzero(tails >= chance).max())
    return Gate(
        "live_false_positives",
        p >= chance,
        n_rejected / n_judged,
        min(most / n_judged, 1.0),
        f"{n_rejected} of {n_judged} live images are rejected; with {promised_fpr:.2%} promised and a usual defect share of "
        f"{defect_share:.1%} as many or more come by chance with p = {p:.3g}",
    )


def live_shift_gate(bulk_shift_sd: float, low: float, high: float, *, verdict: str) -> Gate:
    """On live nights the check finds no drift from the version's own reference."""
    known = bool(np.isfinite(bulk_shift_sd))
    interval = f" (95 % between {low:+.2f} and {high:+.2f})" if np.isfinite([low, high]).all() else ""
    where = (
        f"the bulk lies {bulk_shift_sd:+.2f} SD from the version's reference"
        if known
        else "where the bulk lies is unknown"
    )
    return Gate(
        "live_shift_sd",
        verdict != "drift",
        bulk_shift_sd if known else 0.0,
        MAX_SHIFT_SD,
        f"the check says {verdict}: {where}{interval}",
    )


def detection_gate(
    name: str,
    *,
    champion_good: NDArray[np.float64],
    champion_defect: NDArray[np.float64],
    challenger_good: NDArray[np.float64],
    challenger_defect: NDArray[np.float64],
    seed: int,
    is_painted: bool = False,
) -> Gate:
    """The challenger separates defects from fresh goods no worse than the champion, on the same images.

    AUROC is compared, since a drifted champion that rejects everything has a recall of 1. Both score the same images,
    so the bootstrap draws images, not scores: what the two have in common cancels out. Fails when the upper bound of
    the gain lies below −`DETECTION_MARGIN`.

    Args:
        name: of the gate.
        champion_good, challenger_good: (n,), the same fresh goods in the same order.
        champion_defect, challenger_defect: (m,), the same defects in the same order.
        seed: of the bootstrap.
        is_painted: defect i is a copy of good i: both are drawn or neither.
    """
    rng = np.random.default_rng(seed)
    before, after = auroc(champion_good, champion_defect), auroc(challenger_good, challenger_defect)
    gains = np.empty(N_RESAMPLES)
    for index in range(N_RESAMPLES):
        g = rng.integers(0, champion_good.size, champion_good.size)
        d = g if is_painted else rng.integers(0, champion_defect.size, champion_defect.size)
        gains[index] = auroc(challenger_good[g], challenger_defect[d]) - auroc(champion_good[g], champion_defect[d])
    high = float(np.quantile(gains, 1 - (1 - CONFIDENCE) / 2))
    return Gate(
        name,
        high >= -DETECTION_MARGIN,
        after,
        before - DETECTION_MARGIN,
        f"AUROC {after:.3f}, the champion's {before:.3f} on the same {champion_good.size} goods and "
        f"{champion_defect.size} defects",
    )


def kinds_gate(
    *,
    champion_good: NDArray[np.float64],
    champion_defect: NDArray[np.float64],
    challenger_good: NDArray[np.float64],
    challenger_defect: NDArray[np.float64],
    kinds: Sequence[str],
) -> Gate:
    """No kind of labelled defect stands out less from fresh goods than it did to the champion, however rare it is.

    A defect's place is the share of fresh goods that score below it; the recall at one threshold would see only defects
    near it. Places are compared image by image, and a loss counts for `MOST_LOSS` at most, so that one image among
    several decides nothing. Fails for a kind whose mean loss is above `KIND_MARGIN` with `KIND_CONFIDENCE`, shared among
    the kinds: against what two equal fits differ by, in the image (`PLACE_NOISE`) and in the kind (`KIND_NOISE`). The
    spread of the losses themselves would be no measure of doubt: a forgotten kind loses unevenly.

    Args:
        champion_good, challenger_good: (n,), the same fresh goods, new to both.
        champion_defect, challenger_defect: (m,), the same labelled defects, new to both.
        kinds: of the m defects, ``""`` where nobody named one.
    """
    names = np.array(kinds)
    before, after = _places(champion_good, champion_defect), _places(challenger_good, challenger_defect)
    z = float(norm.isf((1.0 - KIND_CONFIDENCE) / len(set(kinds))))
    lost: list[str] = []
    worst, worst_excess, value, limit = "", -np.inf, 1.0, 0.0
    for name in sorted(set(kinds)):
        own = names == name
        loss = float(np.minimum(before[own] - after[own], MOST_LOSS).mean())
        allowed = KIND_MARGIN + z * float(np.hypot(PLACE_NOISE / np.sqrt(own.sum()), KIND_NOISE))
        if loss > allowed:
            lost.append(name)
        if loss - allowed > worst_excess:
            worst, worst_excess = name, loss - allowed
            value, limit = float(after[own].mean()), float(before[own].mean()) - allowed
    shown = f"; forgotten: {', '.join(name or 'unnamed' for name in lost)}" if lost else ""
    return Gate(
        "golden_kinds",
        not lost,
        value,
        limit,
        f"of {len(set(kinds))} kinds of labelled defects {worst or 'unnamed'} fares worst: above {value:.0%} of the fresh "
        f"goods, to the champion above {before[names == worst].mean():.0%} ({int((names == worst).sum())} images){shown}",
    )


def labels_gate(n_labelled: int, *, least: int, n_gone: int = 0) -> Gate:
    """Enough labelled defects can be shown to both versions for the other gates to mean what the line asks of them.

    Args:
        n_labelled: that could be shown.
        least: that are wanted.
        n_gone: that are labelled, and whose files are gone or altered.
    """
    missing = max(least - n_labelled, 0)
    reason = f"{n_labelled} labelled defects could be shown to it, {least} are wanted"
    if n_gone:
        reason += f"; the files of {n_gone} are gone: restore the home's images/, or label these defects again where they lie now"
    elif missing:
        reason += f": label {missing} more"
    return Gate("labelled_defects", not missing, float(n_labelled), float(least), reason)


def _places(good: NDArray[np.float64], defect: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) share of goods below each defect, ties count half."""
    ordered = np.sort(good)
    below = np.searchsorted(ordered, defect, side="left") + np.searchsorted(ordered, defect, side="right")
    return below / (2.0 * good.size)


def shift_gate(bulk_shift_sd: float, low: float, high: float) -> Gate:
    """Fresh goods lie where the challenger's own reference lies: the interval reaches below half a sigma."""
    nearest = 0.0 if low <= 0.0 <= high else min(abs(low), abs(high))
    return Gate(
        "fresh_shift_sd",
        nearest < MAX_SHIFT_SD,
        bulk_shift_sd,
        MAX_SHIFT_SD,
        f"fresh goods lie {bulk_shift_sd:+.2f} SD from the new reference (95 % between {low:+.2f} and {high:+.2f})",
    )


def latency_gate(challenger_ms: Sequence[float], champion_ms: Sequence[float], *, budget_ms: float | None) -> Gate:
    """One image is judged within the line's budget, or as fast as the champion judges it in the same minutes."""
    value = float(np.median(challenger_ms))
    usual = float(np.median(champion_ms))
    limit = budget_ms if budget_ms is not None else LATENCY_FACTOR * usual
    return Gate("latency_ms", value <= limit, value, limit, f"{value:.1f} ms an image, the champion {usual:.1f} ms")


def round_trip_gate(before: NDArray[np.float64], after: NDArray[np.float64]) -> Gate:
    """The saved version, loaded again, gives the same scores bit for bit: (n,) each."""
    unequal = int((before != after).sum())
    return Gate(
        "round_trip", unequal == 0, float(unequal), 0.0, f"{before.size - unequal} of {before.size} scores are equal"
    )


def auroc(good: NDArray[np.float64], defect: NDArray[np.float64]) -> float:
    """Probability that a defect scores above a good image, ties count half (Mann–Whitney)."""
    return float(_places(good, defect).mean())
