"""How a line's covariates and scores answer to known disturbances, and which of them a night's covariates tell of.

Each disturbance, at rising strength, is a path through the space of covariates that starts at the reference; a night is
a point in it. The nearest point of the nearest path says what happened and how strong it was, a second and third path
what happened besides (orthogonal matching pursuit, Pati et al. 1993, over curves); what no path comes near was none of
these.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import fmean as mean
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

MOST_DISTURBANCES = 3
GRID = 48
"""Points on a path, from nothing to `REACH` times the strongest probe."""
REACH = 1.5
NOTICED_CHI2 = 20.0
"""A disturbance must take this much off the squared distance in standard errors: some twenty paths are tried."""
LEAST_GAIN = 0.15
"""… and this share of it."""
EXPLAINED = 0.5
"""What is left of the distance, relative to the distance, where the night is still the disturbance's."""
NEUTRAL = {"gain": 1.0, "gamma": 1.0, "scale": 1.0, "jpeg": 100.0}
"""Strength of a disturbance that changes nothing; 0 for the others."""

VECTORS = ("shift", "gradient")
"""Disturbances whose direction is any, probed along the axes."""
SIDEWAYS = (0.0, 90.0, 180.0, 270.0)
BETWEEN = (22.5, 45.0, 67.5)

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Response:
    """One probe: `usual` and `disturbed` are covariates of the same images, `score_changes` theirs in score units."""

    kind: str
    strength: float
    direction_deg: float
    usual: Mapping[str, Sequence[float]]
    disturbed: Mapping[str, Sequence[float]]
    score_changes: Sequence[float]

    def to_json(self) -> dict[str, Any]:
        """A mapping of plain values that `from_json` turns back into an equal one."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Response:
        """The response that `to_json` wrote."""
        return cls(
            kind=document["kind"],
            strength=document["strength"],
            direction_deg=document["direction_deg"],
            usual={name: tuple(values) for name, values in document["usual"].items()},
            disturbed={name: tuple(values) for name, values in document["disturbed"].items()},
            score_changes=tuple(document["score_changes"]),
        )


class Responses(Sequence[Response]):
    """Responses as they were written, read when they are first looked at.

    On most nights nothing moved and nobody asks; reading those of a thousand lines would cost more than all their scores.
    """

    def __init__(self, written: str | Sequence[Mapping[str, Any]]) -> None:
        """`written`: what `Response.to_json` made of each, or the JSON text of all."""
        self._written = written

    @cached_property
    def _read(self) -> tuple[Response, ...]:
        documents = json.loads(self._written) if isinstance(self._written, str) else self._written
        return tuple(Response.from_json(each) for each in documents)

    @overload
    def __getitem__(self, index: int) -> Response: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Response, ...]: ...
    def __getitem__(self, index: int | slice) -> Response | tuple[Response, ...]:
        return self._read[index]

    def __len__(self) -> int:
        return len(self._read)


@dataclass(frozen=True, slots=True)
class Disturbed:
    """A disturbance that a night's covariates tell of, how strong it was, and what it does to the score (score units)."""

    kind: str
    strength: float
    direction_deg: float
    score_shift: float
    chi2: float
    """What it takes off the squared distance, in standard errors."""


def coordinate(name: str, value: float) -> float:
    """A covariate on a scale on which disturbances add: light, contrast and grain as logarithms.

    >>> round(coordinate("brightness", 0.4) - coordinate("brightness", 0.8), 2)
    -0.68
    """
    floor = LOGARITHMIC.get(name)
    return value if floor is None else math.log(max(value, 0.0) + floor)


def slope_of_coordinate(name: str, value: float) -> float:
    """By how much `coordinate` rises where the covariate does."""
    floor = LOGARITHMIC.get(name)
    return 1.0 if floor is None else 1.0 / (max(value, 0.0) + floor)


LOGARITHMIC = {"brightness": 0.01, "contrast": 0.005, "noise": 0.0005}


@dataclass(frozen=True, slots=True)
class _Path:
    kind: str
    direction_deg: float
    strengths: Values
    """(GRID,)"""
    moves: Values
    """(GRID, covariates and the score), in standard errors."""


def find_disturbances(
    responses: Sequence[Response],
    move: Mapping[str, float],
    error: Mapping[str, float],
    *,
    score_shift: float,
    score_error: float,
) -> tuple[tuple[Disturbed, ...], float]:
    """The disturbances that a night's `move` tells of, and the share of the distance that they leave unexplained.

    Args:
        responses: the line's.
        move: each covariate's mean tonight minus the reference's, as `coordinate` puts it.
        error: the standard error of each.
        score_shift: of the good bulk, in score units; the disturbance has to explain it as well.
        score_error: its standard error, that of the responses included.
    """
    names = [name for name in move if all(name in response.usual for response in responses)]
    if not responses or not names:
        return (), 1.0
    scale = np.array([*(error[name] for name in names), score_error])
    target = np.array([*(move[name] for name in names), score_shift]) / scale
    paths = _paths(responses, names, scale)
    chosen: list[tuple[_Path, int]] = []
    length = float(target @ target)
    left, gains = length, []
    while len(chosen) < MOST_DISTURBANCES:
        taken = {path.kind for path, _ in chosen}
        best = min(
            (_refined(target, [*chosen, (path, 0)]) for path in paths if path.kind not in taken),
            key=lambda found: found[1],
            default=None,
        )
        if best is None or left - best[1] < max(NOTICED_CHI2, LEAST_GAIN * length):
            break
        gains.append(left - best[1])
        chosen, left = best
    found = tuple(
        Disturbed(
            kind=path.kind,
            strength=float(path.strengths[at]),
            direction_deg=path.direction_deg,
            score_shift=float(path.moves[at, -1]) * score_error,
            chi2=gain,
        )
        for (path, at), gain in zip(chosen, gains, strict=True)
    )
    return found, math.sqrt(max(left - len(target), 0.0) / length) if length > 0.0 else 0.0


def _refined(target: Values, chosen: list[tuple[_Path, int]]) -> tuple[list[tuple[_Path, int]], float]:
    """The strengths along the chosen paths that come nearest together, by turns; and what is left, squared."""
    at = [index for _, index in chosen]
    moves = [path.moves for path, _ in chosen]
    for _ in range(4 if len(chosen) > 1 else 1):
        for i in reversed(range(len(chosen))):
            rest = target - sum((moves[j][at[j]] for j in range(len(chosen)) if j != i), np.zeros_like(target))
            at[i] = int(np.argmin(((moves[i] - rest) ** 2).sum(axis=1)))
    left = target - sum((moves[j][at[j]] for j in range(len(chosen))), np.zeros_like(target))
    return [(path, index) for (path, _), index in zip(chosen, at, strict=True)], float(left @ left)


def _paths(responses: Sequence[Response], names: Sequence[str], scale: Values) -> list[_Path]:
    branches: dict[tuple[str, float, bool], list[Response]] = defaultdict(list)
    for response in responses:
        weaker = response.strength < NEUTRAL.get(response.kind, 0.0)
        branches[response.kind, response.direction_deg, weaker].append(response)
    paths = [_path(branch, names, scale) for branch in branches.values()]
    for kind in VECTORS:
        sideways = sorted((path for path in paths if path.kind == kind), key=lambda path: path.direction_deg)
        if len(sideways) == len(SIDEWAYS):
            paths += [
                _between(first, second, angle)
                for first, second in zip(sideways, [*sideways[1:], sideways[0]], strict=True)
                for angle in BETWEEN
            ]
    return paths


def _between(first: _Path, second: _Path, angle_deg: float) -> _Path:
    """A direction between two that are 90 degrees apart: moves add as vectors do, scores as their lengths do."""
    at = np.arange(GRID, dtype=np.float64)
    parts = [
        _weights(at, share * at) @ path.moves
        for share, path in zip(
            (math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))), (first, second), strict=True
        )
    ]
    moves = parts[0] + parts[1]
    moves[:, -1] = np.hypot(parts[0][:, -1], parts[1][:, -1]) * np.sign(moves[:, -1])
    return _Path(first.kind, (first.direction_deg + angle_deg) % 360.0, first.strengths, moves)


def _path(branch: list[Response], names: Sequence[str], scale: Values) -> _Path:
    """Straight between the probes and beyond the last; 0 at the neutral strength."""
    neutral = NEUTRAL.get(branch[0].kind, 0.0)
    branch = sorted(branch, key=lambda response: abs(response.strength - neutral))
    knots = np.array([0.0] + [abs(response.strength - neutral) for response in branch])
    moves = [
        [
            *(coordinate(n, mean(each.disturbed[n])) - coordinate(n, mean(each.usual[n])) for n in names),
            mean(each.score_changes),
        ]
        for each in branch
    ]
    at = np.linspace(0.0, REACH * knots[-1], GRID)
    return _Path(
        kind=branch[0].kind,
        direction_deg=branch[0].direction_deg,
        strengths=neutral + math.copysign(1.0, branch[0].strength - neutral) * at,
        moves=_weights(knots, at) @ np.array([[0.0] * len(scale), *moves]) / scale,
    )


def _weights(knots: Values, at: Values) -> Values:
    """(len(at), len(knots)): straight lines between values at the knots, the last one carried on beyond them."""
    right = np.clip(np.searchsorted(knots, at), 1, len(knots) - 1)
    share = (at - knots[right - 1]) / (knots[right] - knots[right - 1])
    weights = np.zeros((len(at), len(knots)))
    rows = np.arange(len(at))
    weights[rows, right] = share
    weights[rows, right - 1] = 1.0 - share
    return weights
