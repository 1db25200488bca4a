from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_ind

from drift.autocorrelation import effective_n, lag_one, lag_sums
from drift.reference import Reference
from drift.shift import mean_shift, reference_error


def test_at_no_shift_the_mean_interval_is_scipys_welch_interval(rng: np.random.Generator) -> None:
    reference = Reference(scores=rng.normal(size=200))
    scores = rng.normal(size=300)
    scores = scores - scores.mean() + reference.mean
    error = reference_error(reference.scores, reference.scores, n_effective=200.0)
    shift = mean_shift(scores, reference, error=error, n_effective=300.0, confidence=0.95)
    welch = ttest_ind(scores, reference.scores, equal_var=False).confidence_interval(0.95)
    assert (shift.low, shift.high) == pytest.approx((welch.low / reference.sd, welch.high / reference.sd), rel=1e-6)


def test_one_score_has_a_shift_and_no_interval(rng: np.random.Generator) -> None:
    reference = Reference(scores=rng.normal(size=50))
    error = reference_error(reference.scores, reference.scores, n_effective=50.0)
    shift = mean_shift(np.array([3.0]), reference, error=error, n_effective=1.0, confidence=0.95)
    assert shift.estimate == pytest.approx((3.0 - reference.mean) / reference.sd)
    assert (shift.low, shift.high) == (-np.inf, np.inf)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
def test_the_effective_size_of_an_autoregression_is_the_textbooks(rng: np.random.Generator, rho: float) -> None:
    nights = []
    for _ in range(30):
        noise = rng.standard_normal(400)
        series = np.empty(400)
        series[0] = noise[0]
        for i in range(1, 400):
            series[i] = rho * series[i - 1] + np.sqrt(1 - rho**2) * noise[i]
        nights.append(lag_sums(series))
    assert effective_n(400, lag_one(nights)) == pytest.approx(400 * (1 - rho) / (1 + rho), rel=0.06)


def test_alternating_images_earn_no_credit() -> None:
    assert lag_one([lag_sums(np.tile([0.0, 1.0], 100))]) == 0.0


def test_equal_scores_have_no_autocorrelation() -> None:
    assert lag_one([lag_sums(np.ones(50))]) == 0.0


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_few_images_never_have_less_than_one_or_more_than_themselves(n: int) -> None:
    assert 1.0 <= effective_n(n, 0.95) <= n
