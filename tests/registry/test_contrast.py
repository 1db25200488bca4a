"""The gate on contrast by numbers worked out by hand: goods that change by a known spread, defects that lose a known share."""

from __future__ import annotations

import math

import numpy as np
import pytest

from registry.contrast import LEAST_GOODS, contrast_gate
from registry.gates import Gate, kinds_gate

GOOD_CHANGES = np.tile([-0.2, -0.1, -0.1, 0.0, 0.0, 0.0, 0.1, 0.1, 0.2], 7)
"""Of the log score. Median 0; absolute deviations, seven times, 0, 0, 0, 0.1 × 4, 0.2 × 2: MAD 0.1, so one SD is 0.14826."""
SD = 0.14826


def _judged(
    losses_sd: dict[str, list[float]], *, scale: float = 1.0, good_changes: object = GOOD_CHANGES
) -> Gate | None:
    """Goods at 10, defects at 40 to the champion; the challenger's scores are all ``scale`` times as large."""
    kinds = [kind for kind, each in losses_sd.items() for _ in each]
    losses = np.array([loss for each in losses_sd.values() for loss in each])
    changes = np.asarray(good_changes, np.float64)
    return contrast_gate(
        champion_good=np.full(changes.size, 10.0),
        champion_defect=np.full(losses.size, 40.0),
        challenger_good=scale * 10.0 * np.exp(changes),
        challenger_defect=scale * 40.0 * np.exp(-losses * SD),
        kinds=kinds,
    )


def test_an_obvious_kind_that_stands_out_less_is_forgotten_although_it_is_still_above_every_good() -> None:
    """Sixteen images lose 1.2 SD each, a factor 0.84; allowed: normal(0.005) 2.576 × √(1 / 16 + 0.2²) = 0.8246."""
    gate = _judged({"fray": [1.2] * 16, "dent": [0.0] * 50})
    assert gate is not None
    assert not gate.passed
    assert (gate.value, gate.limit) == (pytest.approx(1.2, abs=1e-4), pytest.approx(0.8246, abs=1e-3))
    assert "forgotten: fray" in gate.reason
    by_place = kinds_gate(
        champion_good=np.full(GOOD_CHANGES.size, 10.0),
        champion_defect=np.full(16, 40.0),
        challenger_good=10.0 * np.exp(GOOD_CHANGES),
        challenger_defect=np.full(16, 40.0 * math.exp(-1.2 * SD)),
        kinds=["fray"] * 16,
    )
    assert by_place.passed


@pytest.mark.parametrize("scale", [0.1, 1.0, 25.0])
def test_what_equal_fits_differ_by_is_no_loss_on_whatever_scale(scale: float) -> None:
    gate = _judged({"fray": [0.5] * 16, "dent": [0.4] * 50}, scale=scale)
    assert gate is not None
    assert gate.passed
    assert gate.reason.startswith("of 2 kinds of labelled defects dent fares worst")  # 0.4 of 0.63, 0.5 of 0.82


def test_one_image_among_several_decides_nothing_and_what_is_seen_better_is_no_loss() -> None:
    for losses in ([50.0, 0.0, 0.0, 0.0], [50.0, 0.0], [50.0], [-5.0, -4.0]):
        gate = _judged({"crack": losses})
        assert gate is not None
        assert gate.passed, losses


def test_a_kind_of_which_a_fifth_was_forgotten_is_refused_although_the_others_are_seen_as_before() -> None:
    """Three of sixteen images lose 7 SD, each counts for 5: 15 / 16 = 0.9375; allowed: normal(0.01) 2.326 × 0.3202 = 0.7447."""
    gate = _judged({"fray": [7.0] * 3 + [0.0] * 13})
    assert gate is not None
    assert not gate.passed
    assert (gate.value, gate.limit) == (pytest.approx(0.9375, abs=1e-4), pytest.approx(0.7448, abs=1e-3))
    two = _judged({"fray": [7.0] * 2 + [0.0] * 14})
    assert two is not None and two.passed


def test_defects_that_nobody_noticed_among_the_fresh_goods_do_not_hide_what_was_forgotten() -> None:
    noticed = _judged({"fray": [1.2] * 16}, good_changes=GOOD_CHANGES)
    unnoticed = _judged({"fray": [1.2] * 16}, good_changes=[*GOOD_CHANGES, -3.0])
    assert noticed is not None
    assert unnoticed is not None
    assert not noticed.passed
    assert not unnoticed.passed


def test_a_version_against_itself_changes_nothing() -> None:
    gate = _judged({"fray": [0.0] * 4}, good_changes=np.zeros(LEAST_GOODS))
    assert gate is not None
    assert (gate.passed, gate.value) == (True, pytest.approx(0.0))


def test_scores_that_are_not_positive_have_no_contrast() -> None:
    goods, one = np.ones(LEAST_GOODS), np.ones(5)
    judged = {"champion_good": goods, "champion_defect": one, "challenger_good": goods, "challenger_defect": 0.0 * one}
    assert contrast_gate(**judged, kinds=[""] * 5) is None


def test_few_fresh_goods_tell_too_little_of_the_noise_to_refuse_anybody() -> None:
    lost = {"fray": [1.2] * 16}
    assert _judged(lost, good_changes=GOOD_CHANGES[:LEAST_GOODS]) is not None
    assert _judged(lost, good_changes=GOOD_CHANGES[: LEAST_GOODS - 1]) is None
