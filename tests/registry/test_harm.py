"""Costs of a changed station, on samples whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from registry.harm import CHANCE, Figures, costs, figures

THRESHOLD = 3.0


def _parts(seed: int = 0, n: int = 100) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.0, 1.0, n), rng.normal(4.0, 1.0, n)


def _costs(good_after: np.ndarray, defect_after: np.ndarray, *, seed: int = 0) -> tuple[str, ...]:
    good, defect = _parts(seed)
    return costs(
        good_before=good,
        good_after=good_after,
        defect_before=defect,
        defect_after=defect_after,
        threshold=THRESHOLD,
        seed=0,
    )


def test_figures_count_what_lies_above_the_threshold() -> None:
    good, defect = np.array([1.0, 3.0, 3.1]), np.array([2.0, 3.0, 9.0])
    found = figures(good, defect, threshold=THRESHOLD)
    # pairs: 2 beats 1; 3 beats 1 and ties 3; 9 beats all: (1 + 1.5 + 3) / 9
    assert (found.auroc, found.fpr, found.missed) == pytest.approx((5.5 / 9, 1 / 3, 2 / 3))
    assert isinstance(found, Figures)


def test_nothing_changed_costs_nothing() -> None:
    assert _costs(*_parts()) == ()


def test_scores_that_rise_alike_reject_goods_and_lose_no_detection() -> None:
    good, defect = _parts()
    assert _costs(good + 2.5, defect + 2.5) == ("false_rejects",)


def test_scores_that_fall_alike_miss_defects_and_lose_no_detection() -> None:
    good, defect = _parts()
    assert _costs(good - 2.0, defect - 2.0) == ("missed_defects",)


def test_defects_that_fade_below_the_goods_lose_detection() -> None:
    good, defect = _parts()
    assert _costs(good, defect - 2.0) == ("detection", "missed_defects")


def test_a_loss_within_the_margin_is_none_however_certain() -> None:
    good, defect = _parts()
    # four of a hundred defects vanish among the goods: less than the margin of five
    faded = np.where(np.arange(100) < 4, defect - 3.0, defect)
    assert "missed_defects" not in _costs(good, faded)


def test_noise_alone_is_seldom_called_a_cost() -> None:
    rng, n_called = np.random.default_rng(1), 0
    for seed in range(200):
        good, defect = _parts(seed, n=100)
        n_called += bool(_costs(good + rng.normal(0, 0.5, 100), defect + rng.normal(0, 0.5, 100), seed=seed))
    assert n_called <= 200 * 6 * CHANCE
