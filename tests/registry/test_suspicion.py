"""Where the suspect begin on a night that is wider and farther than the known goods, and what share of it is defective."""

from __future__ import annotations

import math

import numpy as np
import pytest

from registry.suspicion import Suspicion, robust


def _suspicion(scores: np.ndarray, usual: np.ndarray) -> Suspicion:
    return Suspicion({str(k): float(score) for k, score in enumerate(scores)}, usual, "drift transfer")


def test_the_limit_moves_and_widens_with_the_night() -> None:
    usual = np.linspace(-1.0, 1.0, 201)  # median 0, and half of it within 0.5
    night = 10.0 + 3.0 * usual
    assert _suspicion(night, usual).limit(2.0) == pytest.approx(10.0 + 3.0 * 2.0)
    assert _suspicion(np.empty(0), usual).limit(2.0) == math.inf


def test_equal_scores_have_a_spread_that_can_be_divided_by() -> None:
    assert robust(np.full(5, 3.0)) == (3.0, 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_tenth_of_defects_is_seen_as_such_and_none_as_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    usual, goods, defects = rng.normal(0.0, 1.0, 200), rng.normal(0.6, 1.0, 270), rng.normal(6.0, 1.0, 30)
    assert _suspicion(goods, usual).defect_share() == 0.0
    assert 0.06 < _suspicion(np.r_[goods, defects], usual).defect_share() < 0.14
