from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from drift.planning import FalseAlarms, Plan, PlannedShift, habits, plan
from drift.reference import Reference
from drift.verdict import judge_lines
from drift.window import Window
from halfsigma import UsageError

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
LINES = 300
MODEL_ERROR = 0.04
"""Beside the Monte Carlo error: scores are no exact normal approximation, and KS is not in the plan."""


def normal(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    return rng.standard_normal(n)


def skewed(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    return (rng.gamma(4.0, 1.0, n) - 4.0) / 2.0


def autocorrelated(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    scores = rng.standard_normal(n) * np.sqrt(1.0 - 0.3**2)
    scores[0] /= np.sqrt(1.0 - 0.3**2)
    for k in range(1, n):
        scores[k] += 0.3 * scores[k - 1]
    return scores


def row_of(planned: Plan, shift_sd: float) -> PlannedShift:
    return next(row for row in planned.shifts if row.shift_sd == shift_sd)


def verdicts(
    rng: np.random.Generator, shifts_sd: list[float], *, n: int, n_reference: int, draw: Draw, independent: Draw
) -> list[str]:
    """The verdict of every night of one new line, as the nightly check gives it."""
    reference = Reference(independent(rng, n_reference))
    windows = [Window(night=date(2026, 1, 1) + timedelta(k), scores=draw(rng, n) + s) for k, s in enumerate(shifts_sd)]
    return [judge_lines([(reference, windows[: k + 1])])[0].kind for k in range(len(windows)) if shifts_sd[k]]


@pytest.mark.parametrize(
    ("n", "n_reference", "rho", "draw", "independent", "shift_sd"),
    [
        (400, 300, 0.0, normal, normal, 0.65),
        (400, 300, 0.0, normal, normal, 0.5),
        (100, 60, 0.0, normal, normal, 0.65),
        (100, 60, 0.0, normal, normal, 1.0),
        (200, 150, 0.3, autocorrelated, normal, 0.65),
        (100, 60, 0.0, skewed, skewed, 0.65),
        (100, 60, 0.0, skewed, skewed, 0.5),
    ],
)
def test_the_first_nights_chance_is_that_of_simulated_verdicts(
    n: int, n_reference: int, rho: float, draw: Draw, independent: Draw, shift_sd: float
) -> None:
    rng = np.random.default_rng(3)
    shape = Reference(independent(np.random.default_rng(4), 20_000))
    planned = plan(images_per_night=n, n_reference=n_reference, rho=rho, reference=shape)
    expected = row_of(planned, shift_sd).drift_first_night_new_line
    given = {"n": n, "n_reference": n_reference, "draw": draw, "independent": independent}
    found = np.mean([verdicts(rng, [shift_sd], **given) == ["drift"] for _ in range(LINES)])
    monte_carlo = 3.0 * np.sqrt(max(expected * (1.0 - expected), 0.01) / LINES)
    assert abs(found - expected) <= MODEL_ERROR + monte_carlo
    assert not planned.rough


@pytest.mark.parametrize(("quiet_nights", "shift_sd"), [(20, 0.25), (0, 0.5)])
def test_the_nights_to_a_warning_are_those_of_simulated_verdicts(quiet_nights: int, shift_sd: float) -> None:
    rng = np.random.default_rng(5)
    row = row_of(plan(images_per_night=200, n_reference=150), shift_sd)
    nights = row.nights_to_warning if quiet_nights else row.nights_to_warning_new_line
    assert nights is not None
    assert nights >= 2
    told = []
    for _ in range(150):
        kinds = verdicts(
            rng,
            [0.0] * quiet_nights + [shift_sd] * nights,
            n=200,
            n_reference=150,
            draw=normal,
            independent=normal,
        )
        told.append([kind in ("warning", "drift") for kind in kinds])
    by_then = np.mean([any(kinds) for kinds in told])
    before = np.mean([any(kinds[:-1]) for kinds in told])
    error = 3.0 * np.sqrt(0.09 / 150)
    assert by_then >= 0.9 - error
    assert before <= 0.9 + error


def test_more_images_a_night_never_notice_less() -> None:
    small, large = plan(images_per_night=60), plan(images_per_night=600)
    for few, many in zip(small.shifts, large.shifts, strict=True):
        if few.shift_sd > 0.5:  # below it, certainty *lowers* the chance of a drift, as it should
            assert many.drift_first_night >= few.drift_first_night
        assert (many.nights_to_warning or 99) <= (few.nights_to_warning or 99)


@pytest.mark.parametrize(("n_reference", "rho", "unrest"), [(300, 0.0, 1.0), (300, 0.6, 1.0), (150, 0.3, 2.0)])
def test_with_the_images_that_are_needed_the_plan_has_the_power_asked_for(
    n_reference: int, rho: float, unrest: float
) -> None:
    line = {"n_reference": n_reference, "rho": rho, "unrest": unrest, "power": 0.8}
    for shift_sd in (0.65, 1.0):
        needed = next(
            each.images_per_night for each in plan(images_per_night=100, **line).needed if each.shift_sd == shift_sd
        )
        assert needed is not None
        assert row_of(plan(images_per_night=needed, **line), shift_sd).drift_first_night >= 0.8
        assert row_of(plan(images_per_night=round(0.85 * needed), **line), shift_sd).drift_first_night < 0.8


def test_half_a_sigma_itself_is_a_coin_toss_however_many_images_there_are() -> None:
    planned = plan(images_per_night=1_000_000, n_reference=100_000)
    assert row_of(planned, 0.5).drift_first_night == pytest.approx(0.5, abs=0.01)
    assert planned.needed[0].images_per_night is None
    assert planned.needed[0].highest_chance == pytest.approx(0.5, abs=0.01)


def test_a_small_reference_is_said_to_be_too_small_for_any_number_of_images() -> None:
    of_sixty = {each.shift_sd: each for each in plan(images_per_night=400, n_reference=60).needed}
    assert of_sixty[0.65].images_per_night is None
    assert of_sixty[0.65].highest_chance < 0.9
    assert of_sixty[1.0].images_per_night is not None


def test_the_chance_rises_with_the_shift_from_nothing_to_certainty() -> None:
    curve = plan(images_per_night=400).chance
    chances = [chance for _, chance in curve]
    assert chances == sorted(chances)
    assert chances[0] < 1e-4
    assert chances[-1] > 0.9999


def test_autocorrelation_costs_images() -> None:
    assert plan(images_per_night=400, rho=0.6).n_effective == pytest.approx(100.0)


def test_nights_below_the_least_number_are_never_drift_by_themselves() -> None:
    planned = plan(images_per_night=29)
    assert planned.least_images == 30
    assert planned.rough
    assert {row.drift_first_night for row in planned.shifts} == {0.0}


def test_a_lines_habits_are_those_of_its_nights() -> None:
    rng = np.random.default_rng(6)
    sizes = [180, 200, 220, 0, 1000]
    windows = [
        Window(night=date(2026, 1, 1) + timedelta(k), scores=autocorrelated(rng, n) if n else [])
        for k, n in enumerate(sizes)
    ]
    found = habits(Reference(normal(rng, 200)), windows)
    assert (found.images_per_night, found.n_nights) == (210, 4)
    assert found.rho == pytest.approx(0.3, abs=0.06)
    assert habits(Reference(normal(rng, 200)), []).images_per_night is None


def test_the_false_alarms_told_are_those_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text()
    row = re.search(r"^\| all \| (\d+) \| ([0-9.]+) \| ([0-9.]+) \| ([0-9.]+) \|$", page, re.MULTILINE)
    assert row is not None
    told = FalseAlarms()
    assert [float(cell) for cell in row.groups()] == [
        told.line_years,
        told.drift_per_year,
        told.warning_per_year,
        told.defect_burst_per_year,
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"images_per_night": 0},
        {"images_per_night": 10, "rho": 1.0},
        {"images_per_night": 10, "n_reference": 1},
        {"images_per_night": 10, "power": 1.0},
        {"images_per_night": 10, "rho": float("nan")},
    ],
)
def test_an_impossible_plan_is_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match="cannot plan"):
        plan(**wrong)
