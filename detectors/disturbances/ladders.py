"""The disturbances of a fire drill: every way in which a station ages, each at rising strength."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from detectors.disturbances.disturbance import FAMILY_ORDER, KINDS, Disturbance

USUAL_SIDE_PX = 256
"""The kinds' ladders in pixels are meant for a photograph of this side; a larger one is disturbed by more pixels."""

_TITLES: Mapping[str, tuple[str, str]] = {
    "shift": ("fixture slips", ""),
    "rotation": ("part turned", ""),
    "scale": ("camera closer", "camera farther away"),
    "gain": ("lamp darker", "lamp brighter"),
    "gamma": ("tone curve: midtones darker", "tone curve: midtones brighter"),
    "gradient": ("light falls off to one side", ""),
    "warmth": ("lamp warmer", "lamp colder"),
    "flicker": ("lamp flickers", ""),
    "defocus": ("out of focus", ""),
    "motion": ("motion blur", ""),
    "dirt": ("dirt on the lens", ""),
    "noise": ("sensor noise", ""),
    "banding": ("banding", ""),
    "dead_pixels": ("dead pixels", ""),
    "jpeg": ("JPEG compression", ""),
}


@dataclass(frozen=True, slots=True)
class Ladder:
    """One disturbance at rising strength; what stays the same all night stays the same on every rung."""

    title: str
    """Of this direction, in a person's words, unique among the ladders."""
    rungs: tuple[Disturbance, ...]
    """The weakest first, all of one kind."""

    @property
    def name(self) -> str:
        """Of the kind."""
        return self.rungs[0].name


def drill_ladders(*, side_px: float, colour: bool, seed: int) -> tuple[Ladder, ...]:
    """Every kind in every direction, fixture first, then lamp, optics and sensor.

    The direction of a slip, of a falling light and of a movement is drawn from `seed`, one for each ladder.

    Args:
        side_px: geometric mean side of the line's photographs.
        colour: whether they have colour; without it no lamp is warmer or colder.
        seed: draws what a change keeps all night.

    >>> [rung.strength for rung in drill_ladders(side_px=512, colour=False, seed=0)[0].rungs]
    [4.0, 8.0, 16.0, 24.0]
    """
    rng = np.random.default_rng(seed)
    ladders = []
    for kind in sorted(KINDS.values(), key=lambda kind: FAMILY_ORDER.index(kind.family)):
        for title, strengths in zip(_TITLES[kind.name], (kind.ladder, kind.opposite), strict=True):
            direction_deg, place = float(rng.uniform(0.0, 360.0)), int(rng.integers(2**31))
            if not strengths or (kind.name == "warmth" and not colour):
                continue
            larger = max(side_px / USUAL_SIDE_PX, 1.0) if kind.unit.endswith("px") else 1.0
            rungs = (Disturbance(kind.name, kind.within(_rounded(larger * s)), direction_deg, place) for s in strengths)
            ladders.append(Ladder(title, tuple(rungs)))
    return tuple(ladders)


def _rounded(strength: float) -> float:
    """To three digits: nobody sets a lens to 1.0546875 px."""
    return round(strength, 2 - math.floor(math.log10(abs(strength))))
