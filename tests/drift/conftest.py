"""Nights drawn as a detector's scores look: right-skewed, with an exact population mean 0 and SD 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from drift.reference import Reference
from drift.window import Window

settings.register_profile("busy", deadline=None, max_examples=60)  # a busy machine is no wrong statistic
settings.load_profile("busy")

FIRST_NIGHT = date(2026, 1, 1)


def goods(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Gamma scores of shape 4, mean 0, standard deviation 1, skewness 1."""
    return (rng.gamma(4.0, 1.0, n) - 4.0) / 2.0


def with_defects(rng: np.random.Generator, scores: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Exactly that share of the scores, at random places, raised by 4 SD on average as real tile defects are."""
    scores = scores.copy()
    struck = rng.choice(len(scores), round(share * len(scores)), replace=False)
    scores[struck] += rng.gamma(2.0, 2.0, len(struck))
    return scores


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261124)


@pytest.fixture
def reference(rng: np.random.Generator) -> Reference:
    return Reference(scores=goods(rng, 300))


@pytest.fixture
def nights(rng: np.random.Generator) -> Callable[..., list[Window]]:
    def make(shifts: Sequence[float], *, n: int = 400, defects: float = 0.0) -> list[Window]:
        """One night a shift; the defects strike the last night."""
        samples = [goods(rng, n) + shift for shift in shifts]
        samples[-1] = with_defects(rng, samples[-1], defects)
        return [Window(night=FIRST_NIGHT + timedelta(i), scores=sample) for i, sample in enumerate(samples)]

    return make
