"""Which family to use, from what was measured; rules of thumb decide only between families that measure alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.bakeoff.result import Entry, Recommendation
from registry.gates import auroc

FAST_MS = 30.0
"""A latency budget below this is what EfficientAD was made for."""
LITTLE_DATA = 100
"""Good images to fit on, below which a memory bank has the fewest things to learn."""
N_RESAMPLES = 400
CHANCE = 0.05
"""One-sided, that a family counts as worse than the leader though it is not."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of a line besides the measurements.

    Attributes:
        n_fit: good images to fit on.
        latency_budget_ms: of the line, or None.
        has_defects: the AUROC is of the user's defects, not of synthetic ones.
        is_texture: the parts have no common picture, only a common texture.
    """

    n_fit: int
    latency_budget_ms: float | None
    has_defects: bool
    is_texture: bool


def recommend(entries: Sequence[Entry], situation: Situation, *, seed: int) -> Recommendation:
    """The rule's family if it measures as well as the best one within the latency budget, else the best one.

    "As well": in paired resamples of goods and defects the best one's AUROC is not higher in all but `CHANCE` of them.
    """
    budget = situation.latency_budget_ms
    within = [each for each in entries if budget is None or each.latency_ms <= budget]
    if not within:
        if not entries:
            return Recommendation(None, "no family could be measured within the time budget")
        fastest = min(entries, key=lambda each: each.latency_ms)
        return Recommendation(
            fastest.family,
            f"no family keeps the line's budget of {budget:g} ms for an image; {fastest.family} comes nearest with "
            f"{fastest.latency_ms:.1f} ms, at an AUROC of {fastest.auroc:.3f}",
        )
    leader = max(within, key=lambda each: (each.auroc, -each.latency_ms))
    level = [each for each in within if each is leader or not _is_worse(each, leader, seed=seed)]
    name, reason = _rule(situation)
    chosen = next((each for each in level if each.family == name), leader)
    where = "" if budget is None else f" within the budget of {budget:g} ms"
    others = [each.family for each in level if each is not chosen]
    alike = f"; {_listed(others)} cannot be told from it with these images" if others else ""
    if chosen.family == name and chosen is leader:
        return Recommendation(name, f"{reason}, and it measures best{where}: AUROC {chosen.auroc:.3f}{alike}")
    if chosen.family == name:
        return Recommendation(
            name,
            f"{reason}; its AUROC of {chosen.auroc:.3f} cannot be told from the best one{where}, "
            f"{leader.auroc:.3f} of {leader.family}",
        )
    ruled = next((each for each in entries if each.family == name), None)
    against = ""
    if ruled is not None:
        slow = budget is not None and ruled.latency_ms > budget
        measured = f"it needs {ruled.latency_ms:.1f} ms" if slow else f"it measures {ruled.auroc:.3f} here"
        against = f". The rule of thumb would be {name} ({reason}), but {measured}"
    return Recommendation(chosen.family, f"it measures best{where}: AUROC {chosen.auroc:.3f}{alike}{against}")


def _rule(situation: Situation) -> tuple[str, str]:
    budget = situation.latency_budget_ms
    if budget is not None and budget < FAST_MS:
        return "efficientad", f"the line has {budget:g} ms for an image"
    if situation.is_texture and not situation.has_defects:
        return "draem", "the parts are a texture and nobody has seen their defects yet"
    if situation.n_fit < LITTLE_DATA:
        return "patchcore", f"there are only {situation.n_fit} good images to fit on"
    return "patchcore", "nothing but the highest detection is asked for"


def _is_worse(entry: Entry, leader: Entry, *, seed: int) -> bool:
    """Whether resampled parts, the same for both, leave the leader ahead in all but `CHANCE` of the draws."""
    rng = np.random.default_rng(seed)
    n_good, n_defect = leader.good_scores.size, leader.defect_scores.size
    ahead = []
    for _ in range(N_RESAMPLES):
        good, defect = rng.integers(n_good, size=n_good), rng.integers(n_defect, size=n_defect)
        ahead.append(_auroc(leader, good, defect) - _auroc(entry, good, defect))
    return bool(np.quantile(ahead, CHANCE) > 0.0)


def _auroc(entry: Entry, good: NDArray[np.int64], defect: NDArray[np.int64]) -> float:
    return auroc(entry.good_scores[good], entry.defect_scores[defect])


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
