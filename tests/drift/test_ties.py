from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from drift.ties import spread_ties, step_of


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=200))
def test_each_score_stays_within_half_a_step_and_a_larger_one_stays_larger(whole: list[int]) -> None:
    scores = np.array(whole, dtype=np.float64)
    spread = spread_ties(scores, 1.0)
    assert np.abs(spread - scores).max() <= 0.5
    order = np.argsort(spread)
    assert (np.diff(scores[order]) >= 0.0).all()


def test_scores_that_do_not_come_in_steps_are_what_they_were() -> None:
    scores = np.random.default_rng(0).normal(size=300)
    scores[1] = scores[0]  # the same picture twice
    assert step_of(scores) == 0.0
    assert spread_ties(scores, step_of(scores)) is scores


def test_equal_scores_lie_evenly_and_show_no_trend() -> None:
    spread = spread_ties(np.full(500, 3.0), 1.0)
    assert np.abs(np.sort(spread) - 3.0 - (np.arange(500) - 249.5) / 500).max() < 0.005
    assert abs(np.corrcoef(np.arange(500), spread)[0, 1]) < 0.01
