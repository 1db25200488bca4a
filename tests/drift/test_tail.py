from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import permutation_test

from drift.tail import heavy_tail, permutation_p


def test_p_is_that_of_counting_every_way_to_draw_the_night(rng: np.random.Generator) -> None:
    usual = np.array([0.0, 0.1, 0.3, 0.0, 1.2, 0.7, 0.2, 2.1, 0.0, 0.4, 0.9])
    tonight = np.array([2.5, 1.4, 2.0, 1.1])
    both = np.concatenate([tonight, usual])
    means = [both[list(chosen)].mean() for chosen in combinations(range(len(both)), 4)]
    exact = np.mean(np.array(means) >= tonight.mean() - 1e-12)
    assert permutation_p(tonight, usual, n_effective=4.0) == pytest.approx(exact, rel=0.5)
    assert 0.0 < exact < 0.05


def test_p_is_that_of_scipys_permutation_test(rng: np.random.Generator) -> None:
    usual, tonight = np.clip(rng.gamma(0.4, 1.0, 300), 0, 4), np.clip(rng.gamma(0.4, 2.0, 100), 0, 4)
    found = permutation_p(tonight, usual, n_effective=100.0)
    oracle = permutation_test(
        (tonight, usual),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        vectorized=True,
        n_resamples=20_000,
        alternative="greater",
        rng=np.random.default_rng(1),
    )
    assert 0.001 < oracle.pvalue < 0.2
    assert found == pytest.approx(oracle.pvalue, rel=0.15)


@pytest.mark.parametrize("family", ["normal", "gamma", "lognormal", "rounded"])
def test_nights_without_defects_have_a_heavy_tail_no_oftener_than_p_says(family: str) -> None:
    rng = np.random.default_rng(5)
    draw = {
        "normal": rng.standard_normal,
        "gamma": lambda n: rng.gamma(4.0, 1.0, n),
        "lognormal": lambda n: rng.lognormal(0.0, 0.6, n),
        "rounded": lambda n: np.round(rng.gamma(4.0, 1.0, n)),
    }[family]
    ps = [heavy_tail(draw(100), np.sort(draw(200)), bulk_shift=0.0, n_effective=100.0).p for _ in range(3000)]
    for level in (0.02, 0.01):
        assert np.mean(np.array(ps) <= level) <= level + 3.0 * np.sqrt(level / 3000)


def test_a_tenth_of_far_defects_is_a_heavy_tail(rng: np.random.Generator) -> None:
    night = rng.standard_normal(100)
    night[:10] += 4.0
    found = heavy_tail(night, np.sort(rng.standard_normal(300)), bulk_shift=0.0, n_effective=100.0)
    assert found.p < 1e-4
    assert found.share == pytest.approx(0.1, abs=0.05)


def test_one_picture_however_strange_is_no_burst(rng: np.random.Generator) -> None:
    night = rng.standard_normal(100)
    night[0] = 1e6
    assert heavy_tail(night, np.sort(rng.standard_normal(300)), bulk_shift=0.0, n_effective=100.0).p > 1e-3


def test_an_autocorrelated_night_proves_less(rng: np.random.Generator) -> None:
    night, usual = np.abs(rng.standard_normal(200)) + 0.1, np.abs(rng.standard_normal(300))
    ps = [permutation_p(night + 0.2, usual, n_effective=n) for n in (200.0, 100.0, 50.0)]
    assert ps == sorted(ps)


def test_equal_scores_have_no_tail() -> None:
    assert permutation_p(np.zeros(10), np.zeros(20), n_effective=10.0) == 1.0
