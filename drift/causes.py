"""Which covariates moved with the scores, and how much of the scores' shift they explain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift.reference import Reference

LEAST_SPREAD: Mapping[str, float] = {
    "brightness": 0.002, "contrast": 0.001, "sharpness": 0.01, "noise": 0.0003, "offset_x": 0.001,
    "offset_y": 0.001, "rotation": 0.05, "saturation": 0.0005, "width": 0.5, "height": 0.5,
}  # fmt: skip
"""A covariate that hardly varies in the reference is measured in these units: smaller moves mean nothing."""
NOTICED_Z = 4.0
"""A covariate moved when its mean is this many standard errors away: ten covariates a night, 1 in 1,500 nights."""
NOTICED_SD = 0.3
"""… and by this many reference standard deviations: smaller moves are not worth a person's walk to the camera."""
TRIM = 0.1
"""Taken off at either end before a covariate's mean is compared: a burst of odd images is no change of light."""
FARTHEST_SD = 4.0
"""Beyond this the reference's linear model would be guessing: no share is given."""
LEAST_R2_Z = 3.0
"""The linear model counts only when its R squared is beyond chance by about this many standard errors."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A covariate that moved by `shift_sd` of its reference standard deviations.

    `share` of the scores' bulk shift that the reference's linear model lays to it; None when that model explains
    nothing, which is the rule when the reference never saw the disturbance.
    """

    name: str
    shift_sd: float
    share: float | None
    phrase: str


def find_causes(
    reference: Reference,
    covariates: Mapping[str, NDArray[np.float64]],
    *,
    n_effective: float,
    bulk_shift_sd: float,
) -> tuple[Cause, ...]:
    """The covariates that moved, the farthest first. `covariates` are the night's, each (n,)."""
    moved: list[tuple[str, float]] = []
    names = [name for name in covariates if name in reference.covariates and len(covariates[name])]
    for name in names:
        usual, tonight = reference.covariates[name], covariates[name]
        spread = max(float(usual.std(ddof=1)), LEAST_SPREAD.get(name, 1e-9))
        centre_usual, error_usual = _trimmed(usual, float(reference.n))
        centre_tonight, error_tonight = _trimmed(tonight, n_effective)
        shift_sd = (centre_tonight - centre_usual) / spread
        if abs(shift_sd) >= max(NOTICED_SD, NOTICED_Z * math.hypot(error_usual, error_tonight) / spread):
            moved.append((name, shift_sd))
    moved.sort(key=lambda pair: -abs(pair[1]))
    shares = _shares(reference, names, dict(moved), bulk_shift_sd)
    return tuple(
        Cause(
            name=name,
            shift_sd=shift_sd,
            share=shares.get(name),
            phrase=phrase(name, float(np.median(reference.covariates[name])), float(np.median(covariates[name]))),
        )
        for name, shift_sd in moved
    )


def _trimmed(values: NDArray[np.float64], n_effective: float) -> tuple[float, float]:
    """The trimmed mean and its standard error."""
    ordered = np.sort(values)
    cut = int(TRIM * len(ordered))
    kept = ordered[cut : len(ordered) - cut]
    spread = float(np.clip(ordered, kept[0], kept[-1]).std()) / (1.0 - 2.0 * TRIM)
    return float(kept.mean()), spread / math.sqrt(max(n_effective, 1.0))


def _shares(
    reference: Reference, names: list[str], moved: Mapping[str, float], bulk_shift_sd: float
) -> dict[str, float]:
    """Slope times move over the bulk shift, for each covariate that moved; empty when the model explains nothing."""
    columns = [
        (
            name,
            (reference.covariates[name] - reference.covariates[name].mean()) / reference.covariates[name].std(ddof=1),
        )
        for name in names
        if reference.covariates[name].std(ddof=1) >= LEAST_SPREAD.get(name, 0.0)
    ]
    n, k = reference.n, len(columns)
    if not moved or not columns or n < 5 * (k + 1) or abs(bulk_shift_sd) < 1e-9:
        return {}
    design = np.column_stack([values for _, values in columns])
    target = (reference.scores - reference.mean) / reference.sd
    slopes, *_ = np.linalg.lstsq(np.column_stack([np.ones(n), design]), target, rcond=None)
    residual = target - design @ slopes[1:]
    adjusted = 1.0 - float(np.sum(residual**2)) / (n - k - 1)
    chance = math.sqrt(2.0 * k) / n  # standard deviation of R squared under no relation, nearly
    if adjusted < LEAST_R2_Z * chance:
        return {}
    slope_of = {name: float(slope) for (name, _), slope in zip(columns, slopes[1:], strict=True)}
    return {
        name: float(np.clip(slope_of[name] * shift / bulk_shift_sd, 0.0, 1.0))
        for name, shift in moved.items()
        if name in slope_of and abs(shift) <= FARTHEST_SD
    }


def phrase(name: str, usual: float, tonight: float) -> str:
    """The move in people's words.

    >>> phrase("brightness", 0.5, 0.44)
    'the picture is 12 % darker'
    >>> phrase("rotation", 0.0, 2.0)
    'the part is turned by 2.0°'
    """
    difference = tonight - usual
    percent = 100.0 * abs(difference) / abs(usual) if usual else math.inf
    amount = f"{percent:.0f} % " if percent < 1000.0 else "much "
    match name:
        case "brightness":
            return f"the picture is {amount}{'brighter' if difference > 0 else 'darker'}"
        case "contrast":
            return f"the contrast is {amount}{'higher' if difference > 0 else 'lower'}"
        case "sharpness":
            return (
                f"the picture is {'sharper' if difference > 0 else 'softer'} (fine detail x {math.exp(difference):.2f})"
            )
        case "noise":
            return f"the picture is {amount}{'noisier' if difference > 0 else 'smoother'}"
        case "offset_x":
            return f"the part sits {abs(100 * difference):.1f} % of the picture's width to the {'right' if difference > 0 else 'left'}"
        case "offset_y":
            return f"the part sits {abs(100 * difference):.1f} % of the picture's height {'lower' if difference > 0 else 'higher'}"
        case "rotation":
            return f"the part is turned by {abs(difference):.1f}°"
        case "saturation":
            return f"{100 * tonight:.1f} % of the pixels are at black or white instead of {100 * usual:.1f} %"
        case "width" | "height":
            return f"the picture's {name} is {tonight:.0f} px instead of {usual:.0f} px"
        case _:
            return f"{name} is {tonight:.3g} instead of {usual:.3g}"
