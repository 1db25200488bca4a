"""What a drill found, before it is told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.disturbances.disturbance import Disturbance
from drift.crossing import first_crossing
from drift.settings import DriftSettings
from drift.verdict import Kind, Verdict
from flows.drill.material import Material
from registry.harm import Cost, Figures

BURST = "defects"
STATION_VERDICTS: frozenset[Kind] = frozenset({"warning", "drift", "sensor_fault"})
"""What says that the station changed."""
SILENT_VERDICTS: frozenset[Kind] = frozenset({"stable", "insufficient"})
"""What tells nobody of anything."""


@dataclass(frozen=True, slots=True)
class Relearned:
    """A version retrained on the disturbed night, on the held-out images of the same station."""

    figures: Figures
    n_fit: int


@dataclass(frozen=True, slots=True)
class Rung:
    """One strength of one disturbance.

    Attributes:
        disturbance: of the station, or None where only the share of defects is new.
        strength: in the kind's unit; of a burst the share of defects.
        label: in a person's words.
        verdict: of the first night after the change.
        before: the champion's figures on held-out images of the changed station.
        after: those of a version that was retrained on the night, or None.
        not_retrained: why a drift was not answered by a retrain; empty otherwise.
        costs: what the champion does worse than before the change.
    """

    disturbance: Disturbance | None
    strength: float
    label: str
    verdict: Verdict
    before: Figures
    after: Relearned | None
    not_retrained: str
    costs: tuple[Cost, ...]

    @property
    def silent(self) -> bool:
        """It costs something, and nobody is told."""
        return bool(self.costs) and self.verdict.kind in SILENT_VERDICTS


@dataclass(frozen=True, slots=True)
class Climb:
    """All rungs of one ladder, the weakest first."""

    name: str
    title: str
    unit: str
    neutral: float
    rungs: tuple[Rung, ...]

    @property
    def first_noticed(self) -> int | None:
        """The weakest rung whose verdict says what happened: a changed station, or a burst of defects."""
        wanted = {"defect_burst"} if self.name == BURST else STATION_VERDICTS
        return next((k for k, rung in enumerate(self.rungs) if rung.verdict.kind in wanted), None)

    @property
    def first_cost(self) -> int | None:
        """The weakest rung that costs something."""
        return next((k for k, rung in enumerate(self.rungs) if rung.costs), None)

    def half_sigma_at(self, undisturbed_bulk_shift_sd: float) -> float | None:
        """The strength at which the bulk shift first reaches half a sigma, between two rungs; None beyond them."""
        strengths, shifts = [self.neutral], [undisturbed_bulk_shift_sd]
        for rung in self.rungs:
            if not np.isfinite(rung.verdict.bulk_shift.estimate):
                break
            strengths.append(rung.strength)
            shifts.append(rung.verdict.bulk_shift.estimate)
        return first_crossing(strengths, shifts, limit=DriftSettings().half_sigma)


@dataclass(frozen=True, slots=True)
class Drill:
    """One line's fire drill."""

    line: str
    version: int
    seed: int
    material: Material
    undisturbed: Rung
    climbs: tuple[Climb, ...]
    """Of the station; what costs something earliest comes first."""
    bursts: Climb
    example: tuple[NDArray[np.uint8] | NDArray[np.uint16], ...]
    """One good part: undisturbed, then under every rung in the climbs' order."""
    example_defects: tuple[NDArray[np.uint8] | NDArray[np.uint16], ...]
    seconds: float
