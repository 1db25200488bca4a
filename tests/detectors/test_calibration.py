"""The threshold keeps the false-positive promise: against a search by hand, and over many simulated lines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from detectors.calibration import (
    MIN_REFERENCE,
    Doubt,
    conformal_threshold,
    fold_of,
    n_taken_for_defects,
    robust,
    threshold_in_doubt,
    threshold_with_defects,
)
from halfsigma import DetectorError, TooFewImages

BUDGETS = st.sampled_from([0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5])


def _by_search(scores: np.ndarray, budget: float) -> tuple[float, float]:
    """The smallest score that a fresh exchangeable one exceeds with probability at most the budget, else the largest.

    A fresh score falls into each of the n + 1 gaps between ordered scores equally often.
    """
    ordered = sorted(scores.tolist())
    n = len(ordered)
    for rank, value in enumerate(ordered, 1):
        exceeded = (n + 1 - rank) / (n + 1)
        if exceeded <= budget + 1e-9:
            return value, exceeded
    return ordered[-1], 1 / (n + 1)


@given(n=st.integers(MIN_REFERENCE, 500), budget=BUDGETS, seed=st.integers(0, 10**6))
@settings(max_examples=300, deadline=None)
def test_the_threshold_is_the_one_found_by_trying_every_score(n: int, budget: float, seed: int) -> None:
    scores = np.random.default_rng(seed).gamma(4.0, 1.0, n)
    threshold = conformal_threshold(scores, fpr_budget=budget)
    value, promised = _by_search(scores, budget)
    assert threshold.value == value
    assert threshold.promised_fpr == pytest.approx(promised)


@pytest.mark.parametrize(("n", "budget"), [(99, 0.01), (200, 0.05), (60, 0.1)])
def test_over_many_lines_fresh_goods_are_rejected_as_often_as_promised_and_no_more(n: int, budget: float) -> None:
    rng = np.random.default_rng(1)
    n_lines, n_fresh = 2000, 200
    rates, promised = [], 0.0
    for _ in range(n_lines):
        threshold = conformal_threshold(rng.gamma(4.0, 1.0, n), fpr_budget=budget)
        rates.append(float((rng.gamma(4.0, 1.0, n_fresh) > threshold.value).mean()))
        promised = threshold.promised_fpr
    error = np.std(rates) / np.sqrt(n_lines)
    assert promised <= budget
    assert abs(np.mean(rates) - promised) < 4 * error


def test_with_too_few_scores_for_the_budget_the_largest_is_taken_and_the_promise_says_so() -> None:
    scores = np.arange(1.0, 51.0)
    threshold = conformal_threshold(scores, fpr_budget=0.01)
    assert (threshold.value, threshold.promised_fpr) == (50.0, pytest.approx(1 / 51))


def test_ties_are_rejected_no_more_than_promised() -> None:
    threshold = conformal_threshold(np.ones(100), fpr_budget=0.05)
    assert not (np.ones(10) > threshold.value).any()


def test_what_was_left_out_at_the_top_counts_as_above_all_scores() -> None:
    scores = np.arange(1.0, 101.0)
    some = conformal_threshold(scores, fpr_budget=0.05, n_above=2)  # ⌈103 · 0.95⌉ = 98
    assert (some.value, some.promised_fpr) == (98.0, pytest.approx(5 / 103))
    many = conformal_threshold(scores, fpr_budget=0.05, n_above=10)  # ⌈111 · 0.95⌉ = 106: the largest there is
    assert (many.value, many.promised_fpr) == (100.0, pytest.approx(11 / 111))


def test_too_few_or_broken_scores_and_impossible_budgets_are_refused() -> None:
    with pytest.raises(TooFewImages, match="19 reference scores, expected at least 20"):
        conformal_threshold(np.arange(19.0), fpr_budget=0.05)
    with pytest.raises(DetectorError, match="not finite"):
        conformal_threshold(np.array([np.nan] * 30), fpr_budget=0.05)
    for budget in (0.0, -0.1, 0.51, np.nan):
        with pytest.raises(DetectorError, match="budget"):
            conformal_threshold(np.arange(30.0), fpr_budget=budget)


@given(n_images=st.integers(2, 300), n_folds=st.integers(2, 12), seed=st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_folds_are_as_equal_as_can_be(n_images: int, n_folds: int, seed: int) -> None:
    sizes = np.bincount(fold_of(n_images, n_folds=n_folds, rng=np.random.default_rng(seed)), minlength=n_folds)
    assert sizes.sum() == n_images
    assert sizes.max() - sizes.min() <= 1


def _reference(n: int, *, n_defects: int = 0, centre: float = 10.0, spread: float = 1.0) -> NDArray[np.float64]:
    goods = centre + spread * norm.ppf((np.arange(n) + 0.5) / n)
    return np.concatenate([goods, centre + spread * np.linspace(6.0, 9.0, n_defects)])


def test_defects_in_a_reference_lift_its_threshold_no_higher_than_known_goods_lie() -> None:
    """Known goods: 3 of 600 may be exceeded, the rank of 601 × (1 − 0.5 %) is 598, the third largest: normal(1 − 2.5 / 600) = 2.638."""
    known, doubtful = _reference(600, centre=50.0, spread=4.0), _reference(300, n_defects=30)
    lifted = conformal_threshold(doubtful, fpr_budget=0.01)
    found = threshold_in_doubt(doubtful, Doubt(known, n_defects=40), fpr_budget=0.01)
    centre, spread = robust(doubtful)
    assert lifted.value > 18.0
    assert found.value == pytest.approx(centre + 2.638 * spread, abs=0.02)
    above = int((doubtful > found.value).sum())
    assert above >= 30 and found.promised_fpr == (above + 1) / 331
    assert n_taken_for_defects(doubtful, found.value, fpr_budget=0.01) == above - 2


def test_no_threshold_is_lowered_beneath_more_scores_than_the_budget_and_the_expected_defects_are() -> None:
    """Good parts whose scores have a longer tail than before are no defects because known goods had none."""
    known, doubtful = _reference(600), _reference(300, n_defects=30)
    for n_defects in (0, 1, 7):
        found = threshold_in_doubt(doubtful, Doubt(known, n_defects), fpr_budget=0.01)
        assert found.value == conformal_threshold(doubtful, fpr_budget=0.01 + n_defects / 330).value
        assert (doubtful > found.value).sum() == 2 + n_defects
        assert n_taken_for_defects(doubtful, found.value, fpr_budget=0.01) == n_defects


def test_known_goods_never_lift_a_threshold() -> None:
    clean, known = _reference(400), _reference(300, centre=3.0, spread=0.5)
    threshold = conformal_threshold(clean, fpr_budget=0.01)
    assert threshold_in_doubt(clean, Doubt(known, n_defects=20), fpr_budget=0.01) == threshold


@pytest.mark.parametrize("known", [_reference(0), _reference(19), _reference(98), np.full(300, 5.0)])
def test_too_few_known_goods_or_such_as_are_all_alike_say_nothing(known: NDArray[np.float64]) -> None:
    doubtful = _reference(300, n_defects=30)
    assert threshold_in_doubt(doubtful, Doubt(known, n_defects=30), fpr_budget=0.01) == conformal_threshold(
        doubtful, fpr_budget=0.01
    )


@pytest.mark.parametrize(("n", "budget"), [(99, 0.01), (199, 0.01), (49, 0.02), (199, 0.005)])
def test_just_enough_known_goods_are_enough(n: int, budget: float) -> None:
    doubtful = _reference(400, n_defects=40)
    lowered = threshold_in_doubt(doubtful, Doubt(_reference(n), n_defects=40), fpr_budget=budget)
    assert lowered.value < conformal_threshold(doubtful, fpr_budget=budget).value


def test_what_was_taken_for_defects_stays_that_when_a_reference_grows() -> None:
    doubtful, added = _reference(300, n_defects=30), _reference(50)
    grown = threshold_with_defects(np.concatenate([doubtful, added]), 30, fpr_budget=0.01)
    assert grown.value < 14.0 < conformal_threshold(np.concatenate([doubtful, added]), fpr_budget=0.01).value
    assert threshold_with_defects(added, 0, fpr_budget=0.05) == conformal_threshold(added, fpr_budget=0.05)
