"""The score logs that every tool gets: simulated line-years and shifts, and resampled nights of real tiles.

A log is one .npz file: `reference` (lines, m) and `nights` (lines, nights, n), both float32 as detectors write them,
and `first_judged`, the index of the first night on which a tool is asked; the nights before are its history. What the
log is, stands in its file's name: kind, scenario and condition, separated by two underscores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from benchmarks.drift_operating_characteristic import FAMILIES, GRID
from benchmarks.tile_scores import Table

YEAR = 365
HISTORY_NIGHTS = 10
SHIFTED_NIGHTS = 10
DISTRIBUTIONS = ("normal", "skewed", "heavy")
RHOS = (0.0, 0.3)
SIZES = ((100, 60), (400, 300))
"""Images a night, images in the reference."""
SHIFTS = (0.0, 0.25, 0.5, 0.65, 1.0)
RAMP_PER_NIGHT = 0.05
"""Reaches half a standard deviation on the tenth night."""

TILE_IMAGES = 100
TILE_REFERENCE = 252
"""Leaves 400 good tiles for a line's nights."""
DEFECT_SHARES = (0.05, 0.1, 0.2)
DISTURBED = ("gain 1.4", "noise 0.02", "shift 6", "jpeg 40", "defocus 1", "rotation 3")
"""From a bulk shift of a third of a standard deviation to one and a half (docs/statistics.md, section 9)."""
DISTURBED_NIGHTS = 3

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LogName:
    """`kind`: quiet, shift, tiles-quiet, tiles-burst or tiles-drift; `condition` names distribution, rho, n and m."""

    kind: str
    scenario: str
    condition: str

    def __str__(self) -> str:
        return f"{self.kind}__{self.scenario}__{self.condition}"

    @classmethod
    def parse(cls, stem: str) -> LogName:
        """The name in a file's stem."""
        return cls(*stem.split("__"))

    @property
    def peers(self) -> str:
        """The condition without the distribution: what a user could know, and tune a threshold for."""
        return self.condition.split(" ", 1)[1]


def _save(folder: Path, name: LogName, reference: Scores, nights: Scores, *, first_judged: int) -> None:
    np.savez(
        folder / f"{name}.npz",
        reference=reference.astype(np.float32),
        nights=nights.astype(np.float32),
        first_judged=first_judged,
    )


def _simulate(rng: np.random.Generator, shape: tuple[int, ...], distribution: str, rho: float) -> Scores:
    """Scores of mean 0 and SD 1, autocorrelated along the last axis."""
    noise = rng.standard_normal(shape)
    if rho:
        noise[..., 1:] *= math.sqrt(1.0 - rho**2)
        noise = lfilter([1.0], [1.0, -rho], noise, axis=-1)
    return np.interp(noise, GRID, FAMILIES[distribution])


def write_simulated(folder: Path, *, years: int, repeats: int, seed: int) -> None:
    """`years` quiet line-years and `repeats` lines a shift, in each of the 12 conditions."""
    rng = np.random.default_rng(seed)
    scenarios = {f"{shift:g} SD": np.full(SHIFTED_NIGHTS, shift) for shift in SHIFTS}
    scenarios["ramp"] = RAMP_PER_NIGHT * np.arange(1, SHIFTED_NIGHTS + 1)
    for distribution in DISTRIBUTIONS:
        for rho in RHOS:
            for n, m in SIZES:
                condition = f"{distribution} rho={rho:g} n={n} m={m}"
                reference = _simulate(rng, (years, m), distribution, 0.0)
                nights = _simulate(rng, (years, YEAR, n), distribution, rho)
                _save(folder, LogName("quiet", "quiet", condition), reference, nights, first_judged=0)
                for scenario, shifts in scenarios.items():
                    reference = _simulate(rng, (repeats, m), distribution, 0.0)
                    nights = _simulate(rng, (repeats, HISTORY_NIGHTS + SHIFTED_NIGHTS, n), distribution, rho)
                    nights[:, HISTORY_NIGHTS:] += shifts[:, None]
                    name = LogName("shift", scenario, condition)
                    _save(folder, name, reference, nights, first_judged=HISTORY_NIGHTS)


def write_tiles(folder: Path, tables: dict[str, Table], *, years: int, repeats: int, seed: int) -> None:
    """Nights of good tiles that the detector never saw; each line splits them anew into a reference and its nights."""
    rng = np.random.default_rng(seed)
    good, defect = tables["good"]["score"], tables["defect"]["score"]
    condition = f"tiles n={TILE_IMAGES} m={TILE_REFERENCE}"

    def line(n_nights: int) -> tuple[Scores, Scores, NDArray[np.intp]]:
        order = rng.permutation(len(good))
        held, rest = order[:TILE_REFERENCE], order[TILE_REFERENCE:]
        nights = np.stack([good[rng.choice(rest, TILE_IMAGES, replace=False)] for _ in range(n_nights)])
        return good[held], nights, rest

    def save(kind: str, scenario: str, lines: list[tuple[Scores, Scores]], first_judged: int) -> None:
        reference, nights = (np.stack(parts) for parts in zip(*lines, strict=True))
        _save(folder, LogName(kind, scenario, condition), reference, nights, first_judged=first_judged)

    save("tiles-quiet", "quiet", [line(YEAR)[:2] for _ in range(years)], 0)
    for share in DEFECT_SHARES:
        lines = []
        for _ in range(repeats):
            reference, nights, _ = line(HISTORY_NIGHTS + 1)
            struck = rng.choice(TILE_IMAGES, round(share * TILE_IMAGES), replace=False)
            nights[-1, struck] = rng.choice(defect, len(struck), replace=False)
            lines.append((reference, nights))
        save("tiles-burst", f"{share:.0%} defects", lines, HISTORY_NIGHTS)
    for kind in DISTURBED:
        disturbed, lines = tables[kind]["score"], []
        for _ in range(repeats):
            reference, nights, rest = line(HISTORY_NIGHTS + DISTURBED_NIGHTS)
            # The first of the good tiles were disturbed; those in this line's reference stay out.
            usable = rest[rest < len(disturbed)]
            for night in range(HISTORY_NIGHTS, HISTORY_NIGHTS + DISTURBED_NIGHTS):
                nights[night] = disturbed[rng.choice(usable, TILE_IMAGES, replace=False)]
            lines.append((reference, nights))
        save("tiles-drift", kind, lines, HISTORY_NIGHTS)


def write_many_lines(path: Path, *, lines: int, n: int, m: int, seed: int) -> None:
    """One night of many lines, for the clock."""
    rng = np.random.default_rng(seed)
    np.savez(
        path,
        reference=_simulate(rng, (lines, m), "skewed", 0.0).astype(np.float32),
        nights=_simulate(rng, (lines, 1, n), "skewed", 0.0).astype(np.float32),
        first_judged=0,
    )
