from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import false_discovery_control, ks_2samp, kstwo

from drift.fdr import q_values
from drift.ks import ks_p, ks_statistic

scores = arrays(np.float64, st.integers(2, 60), elements=st.integers(-5, 5).map(float))  # ties on purpose
smooth = arrays(np.float64, st.integers(2, 60), elements=st.floats(-1e6, 1e6))


@given(window=scores | smooth, reference=scores | smooth)
def test_the_statistic_is_scipys_with_ties_and_without(window: np.ndarray, reference: np.ndarray) -> None:
    expected = ks_2samp(window, reference, method="asymp").statistic
    assert ks_statistic(window, np.sort(reference)) == pytest.approx(expected, abs=1e-12)


@given(window=smooth, reference=smooth)
def test_the_p_value_at_whole_sample_sizes_is_scipys_asymptotic_one(window: np.ndarray, reference: np.ndarray) -> None:
    expected = ks_2samp(window, reference, method="asymp")
    p = ks_p(float(expected.statistic), n_window=len(window), n_reference=len(reference))
    assert p == pytest.approx(
        expected.pvalue, rel=1e-3 if expected.pvalue < 0.1 else None, abs=4e-3 * (expected.pvalue > 0.09)
    )


@pytest.mark.parametrize("n", [20, 75, 171, 1000])
def test_the_p_value_is_scipys_over_its_whole_range(n: int) -> None:
    for d in np.linspace(0.5 / n, min(1.0, 4.0 / np.sqrt(n)), 60):
        exact = kstwo.sf(d, n)
        p = ks_p(float(d), n_window=2.0 * n, n_reference=2.0 * n)
        assert p == pytest.approx(exact, rel=1e-3) if exact < 0.09 else p == pytest.approx(exact, abs=4e-3)


def test_fewer_effective_images_make_the_same_distance_less_surprising() -> None:
    p = [ks_p(0.2, n_window=n, n_reference=300) for n in (400, 200, 100, 25)]
    assert p == sorted(p)


@given(p=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40))
def test_q_is_scipys_benjamini_hochberg(p: list[float]) -> None:
    assert q_values(p) == pytest.approx(list(false_discovery_control(p)))


def test_no_lines_have_no_q() -> None:
    assert q_values([]) == []
