"""Each gate by numbers worked out by hand or by an independent library."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from registry.gates import (
    auroc,
    detection_gate,
    false_positives_gate,
    kinds_gate,
    labels_gate,
    latency_gate,
    live_false_positives_gate,
    live_shift_gate,
    round_trip_gate,
    shift_gate,
)


@given(n_good=st.integers(1, 200), n_defect=st.integers(1, 60), levels=st.integers(2, 50), seed=st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_auroc_is_scikit_learns_ties_included(n_good: int, n_defect: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    good, defect = rng.integers(0, levels, n_good).astype(float), rng.integers(0, levels, n_defect).astype(float)
    truth = np.r_[np.zeros(n_good), np.ones(n_defect)]
    assert auroc(good, defect) == pytest.approx(roc_auc_score(truth, np.r_[good, defect]))


@pytest.mark.parametrize(
    ("n_rejected", "n_good", "n_reference", "passes"),
    [
        (0, 36, 84, True),
        (3, 36, 84, True),  # the threshold is the largest of 84: by chance in 1 of 40 cases
        (5, 36, 84, False),
        (5, 150, 299, True),
        (8, 150, 299, False),
    ],
)
def test_false_positives_fail_only_when_chance_does_not_explain_them(
    n_rejected: int, n_good: int, n_reference: int, passes: bool
) -> None:
    """Against simulation: a threshold drawn from a reference, and new goods of the same kind."""
    above = max(1, (n_reference + 1) // 100)
    gate = false_positives_gate(
        n_rejected, n_good, promised_fpr=above / (n_reference + 1), n_reference=n_reference, budget=0.01
    )
    rng = np.random.default_rng(0)
    thresholds = np.sort(rng.random((4000, n_reference)), axis=1)[:, n_reference - above]
    simulated = (rng.random((4000, n_good)) > thresholds[:, None]).sum(axis=1)
    assert gate.passed is passes is bool((simulated >= n_rejected).mean() >= 0.01)
    assert gate.value == n_rejected / n_good
    assert (n_rejected / n_good <= gate.limit) is passes
    assert f"{n_rejected} of {n_good}" in gate.reason


def test_a_challenger_that_separates_as_well_passes_and_a_blind_one_fails() -> None:
    rng = np.random.default_rng(0)
    good, defect = rng.normal(0, 1, 60), rng.normal(2, 1, 60)
    same = detection_gate(
        "synthetic_auroc",
        champion_good=good,
        champion_defect=defect,
        challenger_good=10 * good + 5,  # another scale is not another ability
        challenger_defect=10 * defect + 5,
        seed=0,
    )
    assert same.passed
    assert same.value == pytest.approx(auroc(good, defect))
    assert same.limit == pytest.approx(auroc(good, defect) - 0.02)
    blind = detection_gate(
        "synthetic_auroc",
        champion_good=good,
        champion_defect=defect,
        challenger_good=rng.normal(0, 1, 60),
        challenger_defect=rng.normal(0, 1, 60),
        seed=0,
    )
    assert not blind.passed


def test_a_drifted_champion_that_rejects_everything_is_no_bar_for_its_successor() -> None:
    """Its recall is 1 and its AUROC a half: the challenger is compared by what it tells apart."""
    rng = np.random.default_rng(1)
    gate = detection_gate(
        "synthetic_auroc",
        champion_good=rng.normal(50, 1, 60),
        champion_defect=rng.normal(50, 1, 60),
        challenger_good=rng.normal(0, 1, 60),
        challenger_defect=rng.normal(3, 1, 60),
        seed=0,
    )
    assert gate.passed


@pytest.mark.parametrize(
    ("shift", "low", "high", "passes"),
    [
        (0.0, -0.3, 0.3, True),
        (0.6, 0.45, 0.75, True),  # it may still lie within half a sigma
        (0.7, 0.5, 0.9, False),
        (-0.8, -1.0, -0.6, False),
        (-0.6, -0.8, -0.4, True),
        (0.0, -math.inf, math.inf, True),
    ],
)
def test_fresh_goods_lie_within_half_a_sigma_of_the_new_reference(
    shift: float, low: float, high: float, passes: bool
) -> None:
    gate = shift_gate(shift, low, high)
    assert gate.passed is passes
    assert (gate.value, gate.limit) == (shift, 0.5)


def test_latency_is_held_against_the_budget_or_the_champion_in_the_same_minutes() -> None:
    assert latency_gate([10, 12, 90], [8], budget_ms=12.0).passed  # the median: one hiccup is no verdict
    assert not latency_gate([10, 13, 14], [8], budget_ms=12.0).passed
    assert latency_gate([15], [10], budget_ms=None).passed
    gate = latency_gate([15.1], [10], budget_ms=None)
    assert not gate.passed
    assert (gate.value, gate.limit) == (15.1, 15.0)


def test_one_bit_lost_in_the_round_trip_fails_it() -> None:
    scores = np.array([1.0, 2.0, 3.0])
    assert round_trip_gate(scores, scores.copy()).passed
    gate = round_trip_gate(scores, np.array([1.0, np.nextafter(2.0, 3.0), 3.0]))
    assert not gate.passed
    assert gate.reason == "2 of 3 scores are equal"


def test_a_gate_is_told_with_its_figure_its_limit_and_why() -> None:
    assert round_trip_gate(np.ones(2), np.ones(2)).to_dict() == {
        "name": "round_trip",
        "passed": True,
        "value": 0.0,
        "limit": 0.0,
        "reason": "2 of 2 scores are equal",
    }


@pytest.mark.parametrize(("n_rejected", "defect_share"), [(3, 0.0), (9, 0.05), (14, 0.05), (25, 0.1)])
def test_live_rejects_are_as_likely_as_a_simulation_says(n_rejected: int, defect_share: float) -> None:
    """A threshold drawn from 199 goods, 150 live images, and defects among them that are always rejected."""
    rng = np.random.default_rng(3)
    fpr = rng.beta(2, 198, 200_000)  # of the 198th of 199 order statistics
    counts = rng.binomial(150, fpr) + rng.binomial(150, defect_share, fpr.size)
    share = float((counts >= n_rejected).mean())
    gate = live_false_positives_gate(
        n_rejected, 150, promised_fpr=2 / 200, n_reference=199, defect_share=defect_share, chance=0.01
    )
    told = float(gate.reason.rsplit("= ", 1)[1])
    assert told == pytest.approx(share, abs=0.005)
    assert gate.passed == (told >= 0.01)
    assert gate.value == n_rejected / 150


def test_a_drift_on_live_nights_fails_and_nothing_else_does() -> None:
    assert not live_shift_gate(0.9, 0.6, 1.2, verdict="drift").passed
    for verdict in ("stable", "warning", "insufficient", "defect_burst"):
        assert live_shift_gate(0.1, -0.1, 0.3, verdict=verdict).passed
    assert live_shift_gate(math.nan, -math.inf, math.inf, verdict="insufficient").value == 0.0


def _kinds(losses: dict[str, list[float]]) -> Any:
    """100 goods at 0.5, 1.5, … 99.5; to the champion each defect lies above 90 of them, to the challenger above less."""
    good = np.arange(100) + 0.5
    kinds = [kind for kind, each in losses.items() for _ in each]
    after = 90.0 - 100.0 * np.array([loss for each in losses.values() for loss in each])
    return kinds_gate(
        champion_good=good,
        champion_defect=np.full(len(kinds), 90.0),
        challenger_good=good,
        challenger_defect=after,
        kinds=kinds,
    )


def test_a_rare_kind_that_was_forgotten_fails_however_many_others_are_still_seen() -> None:
    """Four cracks lose 0.45 on average; allowed: 0.05 + normal(0.005) 2.576 × √(0.1² / 4 + 0.03²) = 0.2002."""
    gate = _kinds({"crack": [0.4, 0.5, 0.5, 0.4], "dent": [0.0] * 100})
    assert not gate.passed
    assert "forgotten: crack" in gate.reason
    assert gate.value == pytest.approx(0.45)
    assert gate.limit == pytest.approx(0.9 - 0.2002, abs=1e-4)


def test_what_equal_fits_differ_by_is_no_forgotten_kind() -> None:
    assert _kinds({"crack": [0.1, 0.2, 0.2, 0.2], "dent": [0.05] * 100}).passed
    assert _kinds({"crack": [0.9, 0.0, 0.0, 0.0], "dent": [0.0] * 100}).passed  # one image of four decides nothing
    assert not _kinds({"crack": [0.1, 0.2, 0.2, 0.2], "dent": [0.2] * 100}).passed  # so many cannot lose so much


def test_one_image_of_a_kind_must_lose_very_much() -> None:
    """Alone: 0.05 + normal(0.01) 2.326 × √(0.1² + 0.03²) = 0.2929."""
    assert _kinds({"crack": [0.29]}).passed
    assert not _kinds({"crack": [0.30]}).passed


def test_what_the_challenger_sees_better_is_no_loss() -> None:
    assert _kinds({"crack": [-0.1, -0.05], "dent": [-0.1]}).passed


def test_labels_are_counted_against_what_the_line_asks_for() -> None:
    assert labels_gate(20, least=20).passed
    gate = labels_gate(18, least=20)
    assert (gate.passed, gate.value, gate.limit) == (False, 18.0, 20.0)
    assert "label 2 more" in gate.reason
    assert "the files of 3 are gone" in labels_gate(18, least=20, n_gone=3).reason


def test_goods_and_their_painted_copies_are_drawn_together() -> None:
    """Each version reacts in its own way to a picture, painted or not: that is in both, and cancels out."""
    rng = np.random.default_rng(0)
    champion, twin = rng.normal(0.0, 1.0, (2, 90))
    paint = rng.normal(1.0, 0.3, 90)
    limits = {}
    for loss in np.linspace(0.0, 0.8, 41):
        for is_painted in (False, True):
            gate = detection_gate(
                "synthetic_auroc",
                champion_good=champion,
                champion_defect=champion + paint,
                challenger_good=twin,
                challenger_defect=twin + paint - loss,
                seed=0,
                is_painted=is_painted,
            )
            if not gate.passed:
                limits.setdefault(is_painted, loss)
    assert limits[True] < limits[False]


def test_a_million_live_images_are_judged_at_once() -> None:
    gate = live_false_positives_gate(10_500, 1_000_000, promised_fpr=0.01, n_reference=299, defect_share=0.0)
    assert gate.passed
    assert not live_false_positives_gate(60_000, 1_000_000, promised_fpr=0.01, n_reference=299, defect_share=0.0).passed
