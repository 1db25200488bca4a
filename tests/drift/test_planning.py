from __future__ import annotations

import pytest

from drift.planning import plan
from halfsigma import UsageError


def test_more_images_a_night_never_notice_less() -> None:
    small, large = plan(images_per_night=60), plan(images_per_night=600)
    for few, many in zip(small.shifts, large.shifts, strict=True):
        if few.shift_sd > 0.5:  # below it, certainty *lowers* the chance of a drift, as it should
            assert many.drift_first_night >= few.drift_first_night
        assert (many.nights_to_warning or 99) <= (few.nights_to_warning or 99)


def test_half_a_sigma_itself_is_a_coin_toss_however_many_images_there_are() -> None:
    rows = plan(images_per_night=1_000_000, n_reference=100_000, shifts_sd=(0.5,)).shifts
    assert rows[0].drift_first_night == pytest.approx(0.5, abs=0.01)


def test_autocorrelation_costs_images() -> None:
    assert plan(images_per_night=400, rho=0.6).n_effective == pytest.approx(100.0)


@pytest.mark.parametrize("wrong", [{"images_per_night": 0}, {"images_per_night": 10, "rho": 1.0}])
def test_an_impossible_plan_is_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match="cannot plan"):
        plan(**wrong)
