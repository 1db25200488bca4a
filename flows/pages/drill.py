"""What the page of a fire drill shows, as plain data: filled by the drill, read by its template."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flows.pages.story import Fact, Pixels, Verdict


@dataclass(frozen=True, slots=True)
class DrillStep:
    """One strength of one disturbance. Shares are 0…1, shifts in reference standard deviations."""

    strength: str
    """With its unit, short: it stands under an axis."""
    label: str
    verdict: Verdict
    bulk_shift_sd: float | None
    """None where the night's pictures show no part."""
    bulk_shift_ci: tuple[float, float] | None
    shift_sd: float | None
    auroc_before: float
    auroc_after: float | None
    """After a retrain; None where nothing was retrained."""
    fpr_before: float
    fpr_after: float | None
    missed_before: float
    missed_after: float | None
    cause: str = ""
    """The first cause that the check named."""
    costs: tuple[str, ...] = ()
    """What became worse, in people's words."""
    silent: bool = False
    """It costs something and nobody is told."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class DrillLadder:
    """One disturbance at rising strength, and what it comes to."""

    title: str
    summary: str
    noticed: str
    """From which strength on, in people's words."""
    hurts: str
    retrain: str
    """What a retrain brings."""
    steps: tuple[DrillStep, ...]
    """The undisturbed night first."""
    pictures: tuple[Pixels, ...]
    """The same part at each step; or other examples, fewer or more than the steps, for a burst of defects."""

    @property
    def silent(self) -> bool:
        """Some strength costs something and nobody is told."""
        return any(step.silent for step in self.steps)


@dataclass(frozen=True, slots=True)
class DrillPage:
    """The page of `halfsigma drill LINE`."""

    line: str
    lead: str
    facts: tuple[Fact, ...]
    ladders: tuple[DrillLadder, ...]
    """What hurts first comes first."""
    bursts: DrillLadder | None
    written_at: datetime
    """Timezone-aware."""
    warning: str = ""
    """What must be known before any figure is believed."""
    provenance: tuple[Fact, ...] = ()
