"""Banks on one drifted night, curated in several ways, and what each is worth on what was held out."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.drifted_nights import FPR_BUDGET, N_CORE, N_NIGHT, SHARES, Night, Patches, n_defects
from benchmarks.softpatch import SoftPatch
from detectors.calibration import Doubt, conformal_threshold, threshold_in_doubt
from detectors.patches.aggregation import TOP_SHARE, top_mean
from detectors.patches.alignment import Alignment
from detectors.patches.bank import MemoryBank
from detectors.patches.coreset import greedy_coreset
from detectors.patches.whitening import PatchMoments
from flows.curating import ORDINARY_SHARE
from registry.curation import Candidate, Curation, curate
from registry.gates import auroc
from registry.suspicion import Suspicion

BANK = 1024
CORE_FOLDS, FOLDS = 8, 5
"""A judge takes 15 folds, a retrain as many: to save time."""


class Memory(Protocol):
    """What tells how far patches are from those it has seen."""

    def nearest(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, dimensions) → (n,)"""
        ...


class Trials:
    """Banks on one night, and what each is worth on what was held out."""

    def __init__(self, night: Night) -> None:
        self.night = night
        core = range(len(night.patches["core"].lengths))
        self.core = night.patches["core"].of(core)
        self._judges: dict[float, tuple[MemoryBank, Suspicion]] = {}

    def scores(self, memory: Memory, group: str, chosen: Sequence[int] | None = None) -> NDArray[np.float64]:
        """(n,) of the chosen images of a group, by default all."""
        patches = self.night.patches[group]
        return _scores(memory, patches, range(len(patches.lengths)) if chosen is None else chosen)

    def worth(self, memory: Memory) -> Worth:
        """AUROC on what was held out, in all and by kind of defect."""
        good, defect = self.scores(memory, "held_good"), self.scores(memory, "held_defect")
        kinds = self.night.kinds
        return Worth(auroc(good, defect), {str(kind): auroc(good, defect[kinds == kind]) for kind in np.unique(kinds)})

    def learned(self, names: Sequence[str], *, with_core: bool) -> MemoryBank:
        """A bank of these images of the night, ``g7`` or ``d3``."""
        parts = [self.core] if with_core else []
        for group, letter in (("good", "g"), ("defect", "d")):
            numbers = [int(name[1:]) for name in names if name[0] == letter]
            if numbers:
                parts.append(self.night.patches[group].of(numbers))
        return bank(np.concatenate(parts))

    def softpatch(self, names: Sequence[str]) -> SoftPatch:
        """SoftPatch's bank of these images of the night."""
        chosen = [
            (self.night.patches[group], numbers)
            for group, letter in (("good", "g"), ("defect", "d"))
            if (numbers := [int(name[1:]) for name in names if name[0] == letter])
        ]
        return SoftPatch.fit(
            np.concatenate([patches.of(numbers) for patches, numbers in chosen]),
            np.concatenate([patches.grids[numbers] for patches, numbers in chosen]),
            bank_size=BANK,
        )

    def judge_of(self, share: float) -> Suspicion | None:
        """None where the verified goods do not fit the night: then a retrain does without them."""
        judge = self.aligned(share)[1]
        return judge if judge.fits() else None

    def aligned(self, share: float) -> tuple[MemoryBank, Suspicion]:
        """As `detectors.disturbances.transfer.Judge`: the core aligned with the night, of which the champion chooses the part."""
        if share not in self._judges:
            n = n_defects(share)
            champion = np.r_[self.night.scores["good"], self.night.scores["defect"][:n]]
            least = np.argsort(champion)[: round(ORDINARY_SHARE * champion.size)]
            parts = (
                self.night.patches["good"].of(least[least < N_NIGHT]),
                *(
                    [self.night.patches["defect"].of(least[least >= N_NIGHT] - N_NIGHT)]
                    if (least >= N_NIGHT).any()
                    else []
                ),
            )
            moments = reduce(operator.add, (PatchMoments.of(each) for each in parts))
            ordinary = np.argsort(self.night.scores["core"])[: round(ORDINARY_SHARE * N_CORE)]
            of_core = PatchMoments.of(self.night.patches["core"].of(ordinary))
            core = Alignment.of(of_core, moments).apply(self.core)
            memory = bank(core)
            scores = {f"g{i}": float(score) for i, score in enumerate(self.scores(memory, "good"))}
            scores |= {f"d{i}": float(score) for i, score in enumerate(self.scores(memory, "defect")[:n])}
            grids = self.night.patches["core"].grids
            usual = self._cross_fitted(Patches(core, grids), range(len(grids)), None, n_folds=CORE_FOLDS)
            self._judges[share] = memory, Suspicion(scores, usual, "the verified goods")
        return self._judges[share]

    def curated(self, share: float, *, verdicts: bool = False) -> Curation:
        """The real curation, of the night with that share of defects."""
        n = n_defects(share)
        names = [f"g{i}" for i in range(N_NIGHT)] + [f"d{i}" for i in range(n)]
        champion = np.r_[self.night.scores["good"], self.night.scores["defect"][:n]]
        judge = self.judge_of(share)
        labels: dict[str, str] = {}
        if verdicts:
            looked_at = self.curated(share).to_look_at
            labels = {each.sha256: "good" if each.sha256[0] == "g" else "defect" for each in looked_at}
        small = {name: np.full((8, 8), k, np.float32) for k, name in enumerate(names)}
        return curate(
            [
                Candidate(name, name, float(score), labels.get(name))
                for name, score in zip(names, champion, strict=True)
            ],
            reference_scores=self.night.reference_scores,
            threshold=self.night.threshold,
            defect_share=float(self.night.defect_shares[SHARES.index(share)]),
            fpr_budget=FPR_BUDGET,
            small_images=small,
            seed=0,
            judge=judge,
            has_core=judge is not None,
        )

    def at_the_threshold(
        self,
        names: Sequence[str],
        *,
        with_core: bool,
        held_back: Sequence[str] = (),
        doubt: Doubt | None = None,
    ) -> tuple[float, float]:
        """False positives and recall on what was held out, at the threshold of the reference: cross-fitted, and held back.

        In a retrain's folds the verified goods are scored as well, so its banks lack some of them.
        """
        memory = self.learned(names, with_core=with_core)
        night = [self.night.patches["good"], self.night.patches["defect"]]
        both = Patches(np.concatenate([each.values for each in night]), np.concatenate([each.grids for each in night]))
        first = {"g": 0, "d": N_NIGHT}
        numbers = [first[name[0]] + int(name[1:]) for name in names]
        reference = [self._cross_fitted(both, numbers, self.core if with_core else None, n_folds=FOLDS)]
        reference += [
            self.scores(memory, group, numbers)
            for group, letter in (("good", "g"), ("defect", "d"))
            if (numbers := [int(name[1:]) for name in held_back if name[0] == letter])
        ]
        scores = np.concatenate(reference)
        limit = (
            conformal_threshold(scores, fpr_budget=FPR_BUDGET)
            if doubt is None
            else threshold_in_doubt(scores, doubt, fpr_budget=FPR_BUDGET)
        ).value
        rejected = [float((self.scores(memory, group) > limit).mean()) for group in ("held_good", "held_defect")]
        return rejected[0], rejected[1]

    def _cross_fitted(
        self, patches: Patches, images: Sequence[int], besides: NDArray[np.float32] | None, *, n_folds: int
    ) -> NDArray[np.float64]:
        n_folds = min(n_folds, len(images))
        folds = np.random.default_rng(0).permutation(np.arange(len(images)) % n_folds)
        found = np.empty(len(images))
        for fold in range(n_folds):
            others = (
                [patches.of([i for i, own in zip(images, folds, strict=True) if own != fold])] if n_folds > 1 else []
            )
            memory = bank(np.concatenate([*([] if besides is None else [besides]), *others]))
            found[folds == fold] = _scores(
                memory, patches, [i for i, own in zip(images, folds, strict=True) if own == fold]
            )
        return found


@dataclass(frozen=True, slots=True)
class Worth:
    """AUROC, 0…1."""

    auroc: float
    by_kind: dict[str, float]


def _scores(memory: Memory, patches: Patches, images: Sequence[int]) -> NDArray[np.float64]:
    ends = np.cumsum([patches.lengths[i] for i in images])[:-1]
    distances = np.split(memory.nearest(patches.of(images)), ends)
    return np.array([top_mean(each, top_share=TOP_SHARE).score for each in distances])


def bank(patches: NDArray[np.float32]) -> MemoryBank:
    return MemoryBank(patches[greedy_coreset(patches, min(BANK, len(patches)), seed=0)])
