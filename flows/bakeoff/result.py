"""What a bake-off found, before it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flows.bakeoff.material import Material


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One family, measured; None where there was no time for it, with the reason in ``missing``.

    Attributes:
        family: its name.
        good_scores, defect_scores: of the held-out goods and the deciding defects, before the drift.
        auroc, fpr: of these, at the version's own threshold.
        by_kind: AUROC on synthetic defects by group.
        fit_s: of features, model, reference and threshold.
        latency_ms, latency_p95_ms: of one photograph in a fresh process, framing and covariates included.
        memory_mb: that process's peak, everything included.
        retrain_s: as fit_s, on the fresh images after the drift, from the first version where the family can.
        auroc_drifted, fpr_drifted: of the first version after the drift.
        auroc_after_drift, fpr_after_drift: of the retrained one.
        auroc_dirty: of a version fitted with `DIRTY_SHARE` of defects among the goods, without any drift.
    """

    family: str
    good_scores: NDArray[np.float64]
    defect_scores: NDArray[np.float64]
    auroc: float
    fpr: float
    by_kind: Mapping[str, float]
    fit_s: float
    latency_ms: float
    latency_p95_ms: float
    memory_mb: float
    retrain_s: float | None = None
    auroc_drifted: float | None = None
    fpr_drifted: float | None = None
    auroc_after_drift: float | None = None
    fpr_after_drift: float | None = None
    auroc_dirty: float | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Which family, and why in words; None where none was measured."""

    family: str | None
    because: str


@dataclass(frozen=True, slots=True)
class Bakeoff:
    """One line's bake-off.

    Attributes:
        line: its name.
        material: the images.
        drift: what the station was changed by, in words.
        entries: measured families, the highest AUROC first.
        failed: family → why it was not measured.
        recommendation: of one of the entries.
        latency_budget_ms: of the line, where it has one.
        minutes: the time budget.
        white_level: of the camera.
        seed, seconds: of the whole.
    """

    line: str
    material: Material
    drift: str
    entries: tuple[Entry, ...]
    failed: Mapping[str, str]
    recommendation: Recommendation
    latency_budget_ms: float | None
    minutes: float
    white_level: int
    seed: int
    seconds: float
