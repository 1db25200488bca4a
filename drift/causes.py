"""Which covariates moved with the scores, what happened to the pictures, and how much of the scores' shift it explains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift.reference import Reference
from drift.responses import Disturbed, coordinate, find_disturbances, slope_of_coordinate
from drift.wording import covariate_phrase, disturbance_phrase

LEAST_SPREAD: Mapping[str, float] = {
    "brightness": 0.002, "contrast": 0.001, "sharpness": 0.01, "noise": 0.0003, "offset_x": 0.001,
    "offset_y": 0.001, "rotation": 0.05, "saturation": 0.0005, "width": 0.5, "height": 0.5, "scale": 0.001,
    "gradient_x": 0.005, "gradient_y": 0.005, "warmth": 0.005, "speckle": 0.01, "grain_direction": 0.005,
}  # fmt: skip
"""A covariate that hardly varies in the reference is measured in these units: smaller moves mean nothing."""
NOTICED_Z = 4.0
"""A covariate moved when its mean is this many standard errors away: sixteen covariates a night, 1 in 1,000 nights."""
NOTICED_SD = 0.3
"""… and by this many reference standard deviations: smaller moves are not worth a person's walk to the camera."""
TRIM = 0.1
"""Taken off at either end before a covariate's mean is compared: a burst of odd images is no change of light."""
SYSTEMATIC_SD = 0.1
"""Of the reference's standard deviation: how exactly a response measured on a few images holds for a night's mean …"""
SYSTEMATIC_SHARE = 0.1
"""… and this share of the covariate's move."""
SCORE_SYSTEMATIC_SD, SCORE_SYSTEMATIC_SHARE = 0.2, 0.25
"""The same of the score's response, which is measured on images that the model was fitted on."""
LARGEST_REST = 0.5
"""The known disturbances explain a night's covariates when they leave no more of the distance than this."""
LEAST_SHARE = 0.35
"""… and its scores when they account for at least this share of the shift."""
LEAST_SHIFT = 0.5
"""A smaller shift has nothing to be explained: the covariates alone say what happened."""
COVARIATES_OF: Mapping[str, tuple[str, ...]] = {
    "gain": ("brightness",), "gamma": ("brightness", "contrast"), "gradient": ("gradient_x", "gradient_y"),
    "warmth": ("warmth",), "defocus": ("sharpness",), "motion": ("sharpness",), "noise": ("noise",),
    "dead_pixels": ("speckle",), "jpeg": ("sharpness",), "shift": ("offset_x", "offset_y"),
    "rotation": ("rotation",), "scale": ("scale",),
}  # fmt: skip
"""The covariates by which a disturbance is named: the one that moved farthest."""
UNEXPLAINING = ("saturation", "width", "height")
"""Covariates that disturbances move by no law: they are told, not explained with."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A covariate that moved by `shift_sd` of its reference standard deviations.

    Where a known disturbance explains the move, it is named with its strength, and `share` is the share of the scores'
    bulk shift that it explains; None where none does, or where the scores did not move.
    """

    name: str
    shift_sd: float
    share: float | None
    phrase: str
    disturbance: str | None = None
    strength: float | None = None
    direction_deg: float | None = None


@dataclass(frozen=True, slots=True)
class Attribution:
    """`causes`, what explains most first; `main` is the first of them where it explains the night, else None."""

    causes: tuple[Cause, ...] = ()
    main: Cause | None = None


def find_causes(
    reference: Reference,
    covariates: Mapping[str, NDArray[np.float64]],
    *,
    n_effective: float,
    bulk_shift_sd: float,
) -> Attribution:
    """What moved, and what happened. `covariates` are the night's, each (n,).

    Without responses to known disturbances, or where none of them comes near, only the moves are told, the farthest
    first.
    """
    moves = _moves(reference, covariates, n_effective)
    moved = {name: move for name, move in moves.items() if move.is_noticed}
    plain = [
        Cause(name, move.shift_sd, None, covariate_phrase(name, move.usual, move.tonight))
        for name, move in sorted(moved.items(), key=lambda item: -abs(item[1].shift_sd))
    ]
    if not moved or not reference.responses:
        return Attribution(tuple(plain))
    found, rest = find_disturbances(
        reference.responses,
        {name: move.step for name, move in moves.items() if name not in UNEXPLAINING},
        {name: move.error for name, move in moves.items() if name not in UNEXPLAINING},
        score_shift=bulk_shift_sd * reference.sd,
        score_error=(SCORE_SYSTEMATIC_SD + SCORE_SYSTEMATIC_SHARE * abs(bulk_shift_sd)) * reference.sd,
    )
    if not found or rest > LARGEST_REST:
        return Attribution(tuple(plain))
    has_shifted = abs(bulk_shift_sd) >= LEAST_SHIFT
    shares = [each.score_shift / reference.sd / bulk_shift_sd if has_shifted else 0.0 for each in found]
    order = sorted(range(len(found)), key=lambda i: (-shares[i], -found[i].chi2))
    total = max(sum(shares), 1.0)
    named = [_cause(found[i], moves, reference, shares[i] / total if has_shifted else None) for i in order]
    explains = not has_shifted or sum(shares) >= LEAST_SHARE
    rest_of_moves = [cause for cause in plain if cause.name not in {each.name for each in named}]
    if not explains:
        return Attribution(tuple(plain))
    return Attribution((*named, *rest_of_moves), main=named[0])


NO_CAUSE = Attribution()


def pictures_moved(reference: Reference, covariates: Mapping[str, NDArray[np.float64]], *, n_effective: float) -> bool:
    """Whether any covariate of the night moved; a burst of defects moves none, since their trimmed means are compared."""
    return any(move.is_noticed for move in _moves(reference, covariates, n_effective).values())


@dataclass(frozen=True, slots=True)
class _Move:
    """Of a covariate's trimmed mean; `step` and its `error` are on the scale on which disturbances add."""

    usual: float
    tonight: float
    shift_sd: float
    is_noticed: bool
    step: float
    error: float


def _moves(reference: Reference, covariates: Mapping[str, NDArray[np.float64]], n_effective: float) -> dict[str, _Move]:
    names = [name for name, values in covariates.items() if name in reference.covariates and len(values)]
    if not names:
        return {}
    known = np.stack([reference.covariates[name] for name in names])
    usual, usual_error = _trimmed(known, float(reference.n))
    tonight, tonight_error = _trimmed(np.stack([covariates[name] for name in names]), n_effective)
    spread = np.maximum(known.std(axis=1, ddof=1), [LEAST_SPREAD.get(name, 1e-9) for name in names])
    chance = np.hypot(usual_error, tonight_error)
    return {
        name: _move(name, *(float(values[i]) for values in (usual, tonight, spread, chance)))
        for i, name in enumerate(names)
    }


def _move(name: str, usual: float, tonight: float, spread: float, chance: float) -> _Move:
    shift_sd = (tonight - usual) / spread
    step = coordinate(name, tonight) - coordinate(name, usual)
    slope = slope_of_coordinate(name, usual)
    return _Move(
        usual=usual,
        tonight=tonight,
        shift_sd=shift_sd,
        is_noticed=abs(shift_sd) >= max(NOTICED_SD, NOTICED_Z * chance / spread),
        step=step,
        error=math.hypot(slope * math.hypot(chance, SYSTEMATIC_SD * spread), SYSTEMATIC_SHARE * step),
    )


def _trimmed(values: NDArray[np.float64], n_effective: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The trimmed mean of each row of `values` (covariates, n), and its standard error."""
    n = values.shape[1]
    cut = int(TRIM * n)
    kept = np.partition(values, (cut, n - cut - 1), axis=1)[:, cut : n - cut]
    low, high = kept.min(axis=1, keepdims=True), kept.max(axis=1, keepdims=True)
    spread = np.clip(values, low, high).std(axis=1) / (1.0 - 2.0 * TRIM)
    return kept.mean(axis=1), spread / math.sqrt(max(n_effective, 1.0))


def _cause(found: Disturbed, moves: Mapping[str, _Move], reference: Reference, share: float | None) -> Cause:
    names = [name for name in COVARIATES_OF[found.kind] if name in moves]
    name = max(names, key=lambda each: abs(moves[each].shift_sd)) if names else found.kind
    sides = [float(np.median(reference.covariates[side])) for side in ("width", "height") if side in moves]
    return Cause(
        name=name,
        shift_sd=moves[name].shift_sd if names else math.nan,
        share=None if share is None else float(np.clip(share, 0.0, 1.0)),
        phrase=disturbance_phrase(found.kind, found.strength, found.direction_deg, sides),
        disturbance=found.kind,
        strength=found.strength,
        direction_deg=found.direction_deg,
    )
