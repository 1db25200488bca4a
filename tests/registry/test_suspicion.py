"""Where the suspect begin on a night that is wider and farther than the known goods, and what share of it is defective."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detectors.calibration import robust
from registry.suspicion import Suspicion


def _suspicion(scores: np.ndarray, usual: np.ndarray) -> Suspicion:
    return Suspicion({str(k): float(score) for k, score in enumerate(scores)}, usual, "drift transfer")


def test_the_limit_moves_and_widens_with_the_night() -> None:
    usual = np.linspace(-1.0, 1.0, 201)  # median 0, and half of it within 0.5
    night = 10.0 + 3.0 * usual
    assert _suspicion(night, usual).limit(2.0) == pytest.approx(10.0 + 3.0 * 2.0)
    assert _suspicion(np.empty(0), usual).limit(2.0) == math.inf


def test_equal_scores_have_a_spread_that_can_be_divided_by() -> None:
    assert robust(np.full(5, 3.0)) == (3.0, 1.0)


def test_the_share_of_gross_defects_is_seen_half_as_large_again_and_sure_only_where_there_are_many() -> None:
    likely: dict[float, list[float]] = {0.0: [], 0.1: [], 0.2: []}
    sure: dict[float, list[float]] = {0.0: [], 0.1: [], 0.2: []}
    for seed in range(100):
        rng = np.random.default_rng(seed)
        usual, goods = rng.normal(0.0, 1.0, 200), rng.normal(0.6, 1.0, 270)
        for share in likely:
            defects = rng.normal(4.0, 1.5, round(270 * share / (1.0 - share)))
            night = _suspicion(np.r_[goods, defects], usual)
            likely[share].append(night.defect_share())
            sure[share].append(night.surely_defective())
    assert [float(np.mean(found)) for found in likely.values()] == pytest.approx([0.04, 0.17, 0.31], abs=0.02)
    assert np.mean(np.array(sure[0.0]) > 0.05) < 0.03
    assert np.mean(np.array(sure[0.2]) > 0.05) > 0.95
    assert max(s - x for s, x in zip(sure[0.2], likely[0.2], strict=True)) < 0.0


def test_a_judge_to_which_the_whole_night_looks_strange_does_not_fit() -> None:
    rng = np.random.default_rng(0)
    usual = rng.normal(10.0, 1.0, 200)
    assert _suspicion(rng.normal(10.5, 1.2, 150), usual).fits()
    assert _suspicion(np.r_[rng.normal(10.0, 1.0, 120), rng.normal(18.0, 2.0, 30)], usual).fits()
    assert _suspicion(rng.normal(12.2, 2.0, 150), usual).fits(), (
        "it still ranks: a texture whose slip no transfer tells well"
    )
    assert not _suspicion(rng.normal(14.0, 1.0, 150), usual).fits()
    assert not _suspicion(rng.normal(10.0, 3.5, 150), usual).fits()
    assert _suspicion(rng.normal(6.0, 1.0, 150), usual).fits()
    assert not _suspicion(np.empty(0), usual).fits()
