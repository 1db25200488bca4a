"""The bulk's shift: where it is exact, what defects do to it, and whether its interval keeps its word."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.bulk import LOWER, UPPER, bulk_move, sample
from drift.nights import baseline, summarise
from drift.reference import Reference
from drift.verdict import judge_lines, measure
from drift.window import Window

NIGHT = date(2026, 1, 1)


def goods(rng: np.random.Generator, n: int) -> np.ndarray:
    """Gamma scores of shape 4, mean 0, standard deviation 1, skewness 1."""
    return (rng.gamma(4.0, 1.0, n) - 4.0) / 2.0


def bulk_shift(reference: np.ndarray, night: np.ndarray) -> float:
    summary = summarise(baseline(Reference(scores=reference)), Window(night=NIGHT, scores=night))
    assert summary is not None
    return summary.estimate


@given(shift=st.floats(-20.0, 20.0), seed=st.integers(0, 50))
def test_a_copy_of_the_reference_moved_by_any_shift_gives_that_shift(shift: float, seed: int) -> None:
    reference = Reference(scores=goods(np.random.default_rng(seed), 80))
    night = reference.scores + shift * reference.sd
    assert bulk_shift(reference.scores, night) == pytest.approx(shift, abs=1e-9)


@given(scale=st.floats(1e-3, 1e3), origin=st.floats(-1e3, 1e3), seed=st.integers(0, 50))
def test_the_unit_of_the_scores_does_not_matter(scale: float, origin: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, night = goods(rng, 80), goods(rng, 100) + 0.3
    assert bulk_shift(scale * reference + origin, scale * night + origin) == pytest.approx(
        bulk_shift(reference, night), abs=1e-6
    )


@given(seed=st.integers(0, 200))
def test_the_order_of_the_scores_does_not_move_the_estimate_without_an_excess(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, night = sample(goods(rng, 100)), goods(rng, 100)
    moves = [bulk_move(scores, sample(scores), reference, n_effective=100.0) for scores in (night, night[::-1])]
    assert moves[0].shift == moves[1].shift


def test_the_centre_of_a_clean_sample_is_its_trimmed_mean_by_hand() -> None:
    scores = np.arange(1.0, 101.0)
    assert sample(scores).centre == pytest.approx(scores[5:80].mean())
    assert (LOWER, UPPER) == (0.05, 0.80)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_far_defects_up_to_a_fifth_move_the_bulk_by_less_than_a_quarter_where_the_mean_is_moved_by_more(
    rng: np.random.Generator, share: float
) -> None:
    shifts, means = [], []
    for _ in range(60):
        reference = Reference(scores=goods(rng, 300))
        scores = goods(rng, 400)
        scores[: round(share * 400)] += rng.gamma(2.0, 2.0, round(share * 400))  # 4 SD on average
        night = summarise(baseline(reference), Window(night=NIGHT, scores=scores))
        shifts.append(night.estimate)
        means.append((scores.mean() - reference.mean) / reference.sd)
    assert abs(np.mean(shifts)) < 0.2
    assert np.mean(np.abs(shifts) >= 0.5) == 0.0
    assert np.mean(means) == pytest.approx(4.0 * share, abs=0.06)


def test_a_night_of_twice_the_spread_has_not_moved(rng: np.random.Generator) -> None:
    shifts = []
    for _ in range(40):
        reference = Reference(scores=rng.normal(size=300))
        night = Window(night=NIGHT, scores=2.0 * rng.normal(size=400))
        shifts.append(summarise(baseline(reference), night).estimate)
    assert abs(np.mean(shifts)) < 0.25


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_intervals_cover_the_true_shift_as_often_as_they_say(rng: np.random.Generator, shift: float) -> None:
    repeats, bulk, mean = 400, 0, 0
    for _ in range(repeats):
        reference = Reference(scores=goods(rng, 100))
        measured = measure(reference, [Window(night=NIGHT, scores=goods(rng, 300) + shift)])
        bulk += measured.tonight.low <= shift <= measured.tonight.high
        mean += measured.mean.low <= shift <= measured.mean.high
    assert bulk / repeats == pytest.approx(0.95, abs=0.04)
    assert mean / repeats == pytest.approx(0.95, abs=0.04)


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_both_standard_errors_agree_with_a_brute_force_bootstrap(rng: np.random.Generator, shift: float) -> None:
    reference, scores = goods(rng, 200), goods(rng, 400) + shift
    verdict = judge_lines([(Reference(scores=reference), [Window(night=NIGHT, scores=scores)])])[0]
    bulk, mean = [], []
    for _ in range(800):
        again = Reference(scores=rng.choice(reference, 200))
        night = Window(night=NIGHT, scores=rng.choice(scores, 400))
        bulk.append(summarise(baseline(again), night).estimate)
        mean.append((night.scores.mean() - again.mean) / again.sd)
    for shown, drawn in ((verdict.tonight, bulk), (verdict.mean_shift, mean)):
        assert (shown.high - shown.low) / (2 * 1.96) == pytest.approx(float(np.std(drawn)), rel=0.15)


@given(values=st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=3, max_size=60))
def test_rounded_scores_never_break_the_check(values: list[float]) -> None:
    reference = Reference(scores=np.tile([0.0, 1.0, 1.0, 2.0, 5.0], 20))
    verdict = judge_lines([(reference, [Window(night=NIGHT, scores=np.array(values))])])[0]
    assert np.isfinite(verdict.tonight.estimate)
    assert verdict.tonight.low < verdict.tonight.high
