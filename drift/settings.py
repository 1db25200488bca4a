"""The constants of a check, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from halfsigma import UsageError


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """What counts as drift, and what a false alarm may cost.

    >>> DriftSettings().half_sigma
    0.5
    """

    half_sigma: float = 0.5
    """The least bulk shift, in reference standard deviations, that is worth a retrain."""
    alpha: float = 0.01
    """The most that KS's q may be for a drift."""
    confidence: float = 0.95
    """Of the intervals that are shown."""
    drift_confidence: float = 0.9997
    """Of the interval that must exclude no-shift: one false alarm in ten years of nights (1 / 3650)."""
    level_z: float = 2.7
    """A lasting offset against the reference warns beyond this many standard errors: one test per reference."""
    change_z: float = 4.6
    """A change within the line's own history warns beyond this: a maximum over nights and change points."""
    burst_p: float = 1e-3
    """A tail as heavy as tonight's has at most this probability when there is no burst: one in three years at worst."""
    noticed_shift: float = 1.0
    """A night is sufficient when a bulk shift of this many standard deviations would be called drift …"""
    noticed_power: float = 0.8
    """… with this probability."""
    least_effective: int = 30
    """Fewer effectively independent images are never judged by themselves: variances of so few are guesses."""
    history_nights: int = 30
    """Nights looked back for a change: older ones add little precision and cost time."""
    forecast_nights: int = 14
    """A trend warns when its forecast reaches half a sigma within this many nights."""

    def __post_init__(self) -> None:
        for name in ("alpha", "confidence", "drift_confidence", "burst_p", "noticed_power"):
            value = getattr(self, name)
            if not 0.0 < value < 1.0:
                raise UsageError(f"{name} is {value}, expected a number between 0 and 1", hint="see DriftSettings")
        for name in ("half_sigma", "level_z", "change_z", "noticed_shift"):
            if not getattr(self, name) > 0.0:
                raise UsageError(
                    f"{name} is {getattr(self, name)}, expected a number above 0", hint="see DriftSettings"
                )
        for name in ("least_effective", "history_nights", "forecast_nights"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least 1", hint="see DriftSettings")
