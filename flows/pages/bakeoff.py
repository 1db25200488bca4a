"""What the page of a bake-off shows, as plain data: filled by the bake-off, read by its template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from flows.pages.story import Fact, Pixels


@dataclass(frozen=True, slots=True)
class BakeoffRow:
    """One family. Shares are 0…1; None where there was no time for it."""

    family: str
    recommended: bool
    auroc: float
    fpr: float
    by_kind: Mapping[str, float]
    latency_ms: float
    memory_mb: float
    fit_s: float
    retrain_s: float | None
    auroc_drifted: float | None
    auroc_after_drift: float | None
    auroc_dirty: float | None
    notes: tuple[str, ...] = ()
    """What is missing, and why."""


@dataclass(frozen=True, slots=True)
class BakeoffPage:
    """The page of `halfsigma bakeoff LINE`."""

    line: str
    title: str
    because: str
    lead: str
    facts: tuple[Fact, ...]
    rows: tuple[BakeoffRow, ...]
    """The highest AUROC first."""
    kinds: tuple[str, ...]
    """Groups of synthetic defects, in the rows' order of them."""
    deciding: str
    """What the AUROC is of, in people's words."""
    caveat: str
    drift: str
    dirty: str
    latency_budget_ms: float | None
    not_measured: Mapping[str, str]
    examples: tuple[tuple[str, tuple[Pixels, ...]], ...]
    """Pictures of what was judged, by caption."""
    written_at: datetime
    """Timezone-aware."""
    provenance: tuple[Fact, ...] = ()
