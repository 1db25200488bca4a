from __future__ import annotations

import numpy as np
import pytest

from drift.history import NightShift, last_change, most_likely_change, trend

V_REF = 1.0 / 300


def nights(shifts, variance: float = 1.0 / 400) -> list[NightShift]:
    return [NightShift(estimate=float(shift), variance=variance) for shift in shifts]


def test_a_step_is_found_on_its_night() -> None:
    change = most_likely_change(nights([0.0] * 7 + [0.6] * 3), v_ref=V_REF)
    assert change.first == 7
    assert change.estimate == pytest.approx(0.6)
    assert change.step == pytest.approx(0.6)


def test_z_squared_is_twice_the_log_likelihood_ratio() -> None:
    """Against the definition: the Gaussian likelihood with covariance v I + v_ref 1 1', the step fitted by hand."""
    rng = np.random.default_rng(1)
    shift = rng.normal(0.0, 0.05, 12)
    shift[8:] += 0.2
    covariance = np.eye(12) / 400 + V_REF
    best = 0.0
    for first in range(12):
        step = (np.arange(12) >= first).astype(float)
        inverse = np.linalg.inv(covariance)
        size = step @ inverse @ shift / (step @ inverse @ step)
        ratio = shift @ inverse @ shift - (shift - size * step) @ inverse @ (shift - size * step)
        best = max(best, ratio)
    assert most_likely_change(nights(shift), v_ref=V_REF).z ** 2 == pytest.approx(best)


def test_a_constant_offset_of_the_reference_is_not_accumulated_over_the_nights() -> None:
    """One standard error of the reference stays one standard error after any number of nights."""
    offset = np.sqrt(V_REF)
    z = [most_likely_change(nights([offset] * n), v_ref=V_REF).level_z for n in (1, 10, 100)]
    assert all(value <= 1.0 for value in z)
    assert z[2] == pytest.approx(1.0, abs=0.01)


def test_a_straight_rise_is_forecast_to_its_night() -> None:
    line = trend(nights([0.0] * 10 + [0.05 * i for i in range(1, 7)], 1e-5), v_ref=V_REF, target=0.5, confidence_z=1.96)
    assert line is not None
    assert line.slope_per_night == pytest.approx(0.05, rel=0.02)
    assert line.nights_to_half_sigma == pytest.approx(4.0, abs=0.1)
    assert line.low < 4.0 < line.high


def test_a_fall_is_forecast_as_well() -> None:
    line = trend(nights([-0.05 * i for i in range(8)], 1e-5), v_ref=V_REF, target=0.5, confidence_z=1.96)
    assert line.slope_per_night < 0.0
    assert line.nights_to_half_sigma == pytest.approx(3.0, abs=0.2)


def test_a_line_on_its_way_back_to_the_reference_has_no_forecast() -> None:
    line = trend(nights([0.4, 0.35, 0.3, 0.25, 0.2], 1e-5), v_ref=1.0, target=0.5, confidence_z=1.96)
    assert line.nights_to_half_sigma is None


def test_three_nights_show_no_trend() -> None:
    assert trend(nights([0.0, 0.1, 0.2]), v_ref=V_REF, target=0.5, confidence_z=1.96) is None


def test_after_a_repair_the_shift_is_that_of_the_nights_since() -> None:
    change = last_change(nights([0.0] * 10 + [1.0] * 5 + [0.2] * 4), v_ref=V_REF, certain_z=4.6)
    assert (change.first, change.n_level) == (15, 4)
    assert change.estimate == change.level == pytest.approx(0.2)
    assert change.step == pytest.approx(-0.8)
    assert change.came_back
    assert change.level_z == pytest.approx(0.2 / np.sqrt(1 / 1600 + V_REF))


@pytest.mark.parametrize("seed", range(20))
def test_without_a_certain_change_nothing_is_looked_at_again(seed: int) -> None:
    shifts = nights(np.random.default_rng(seed).normal(0.0, 0.05, 30))
    assert last_change(shifts, v_ref=V_REF, certain_z=4.6) == most_likely_change(shifts, v_ref=V_REF)


@pytest.mark.parametrize("seed", range(20))
def test_a_later_change_is_the_one_that_two_sample_tests_over_all_nights_find(seed: int) -> None:
    """Against the definition: each split's two weighted means, compared as known-variance samples are."""
    rng = np.random.default_rng(seed)
    variance = rng.uniform(0.001, 0.01, 20)
    levels = np.repeat([0.0, 1.5, 0.4], [6, 8, 6])
    values = levels + rng.normal(0.0, np.sqrt(variance))
    found = last_change(
        [NightShift(float(x), float(v)) for x, v in zip(values, variance, strict=True)], v_ref=V_REF, certain_z=4.6
    )
    since, spread = values[6:], variance[6:]
    z = []
    for k in range(1, len(since)):
        before, after = (np.average(since[part], weights=1 / spread[part]) for part in (slice(0, k), slice(k, None)))
        z.append((after - before) / np.sqrt(1 / (1 / spread[:k]).sum() + 1 / (1 / spread[k:]).sum()))
    assert found.first == 6 + 1 + int(np.argmax(np.abs(z)))
    assert found.z == pytest.approx(z[found.first - 7])
