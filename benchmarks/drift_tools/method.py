"""What a worker asks of a tool. Imported in every tool's own environment: only numpy and the standard library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """One method's answers for the judged nights of one line.

    `alarm` (nights,) is the tool's own verdict at its defaults. `statistic` (nights,) grows with the evidence and does
    not depend on the tool's threshold, so that another threshold can be put on it; NaN on nights not asked about.
    """

    alarm: NDArray[np.bool_]
    statistic: Scores


class Tool(Protocol):
    """One library; its methods are judged together where they share work."""

    version: str

    def judge(self, reference: Scores, nights: Scores, *, first_judged: int) -> dict[str, Judged]:
        """Answers by method, for one line: `reference` (m,), `nights` (nights, n)."""

    def clocks(self) -> dict[str, Clock]:
        """What is timed, by method."""


class Clock(Protocol):
    """Checks one night of some lines: `references` (lines, m), `nights` (lines, n)."""

    def __call__(self, references: Scores, nights: Scores) -> None: ...


def evidence(p: float) -> float:
    """-log10 p; a p that underflows counts as 1e-300."""
    return -math.log10(max(p, 1e-300))


def judged(answers: list[tuple[bool, float]]) -> Judged:
    """From (alarm, statistic) a night."""
    alarm, statistic = zip(*answers, strict=True)
    return Judged(np.array(alarm, dtype=bool), np.array(statistic, dtype=np.float64))


def standardised(reference: Scores, values: Scores) -> Scores:
    """In the reference's standard deviations: for detectors whose thresholds have the scores' unit."""
    return (values - reference.mean()) / reference.std(ddof=1)
