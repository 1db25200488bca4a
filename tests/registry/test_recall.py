"""A challenger is held against what the champion catches while it is as strict with good parts as it promised."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from registry.recall import GOLDEN_CONFIDENCE, recall_gate, recall_limit

N_REFERENCE, PROMISED = 300, 0.01
N_FRESH, N_LABELLED = 90, 20
THRESHOLD = 2.33
"""Of a version whose good parts score normal(0, 1): it rejects 1 % of them."""


def _limit(fresh: NDArray[np.float64], **more: float) -> float:
    return recall_limit(THRESHOLD, fresh, promised_fpr=PROMISED, n_reference=N_REFERENCE, **more)


@pytest.mark.parametrize(
    ("champion", "challenger", "passes"),
    [(20, 19, True), (20, 17, True), (20, 16, False), (0, 0, True), (10, 20, True)],
)
def test_labelled_defects_are_not_forgotten_by_more_than_an_accident(
    champion: int, challenger: int, passes: bool
) -> None:
    """Of 3 defects that only one of the two catches, all fall to one side in 1 of 8 cases; of 4, in 1 of 16."""
    caught = np.arange(20)
    gate = recall_gate(caught < champion, caught < challenger)
    assert gate.passed is passes
    assert (gate.value, gate.limit) == (challenger / 20, pytest.approx(champion / 20 - 0.05))


@pytest.mark.parametrize("drift_sd", [1.15, 2.0, 7.0])
def test_a_good_challenger_is_not_refused_for_what_a_drifted_champion_rejects_with_everything_else(
    drift_sd: float,
) -> None:
    """Goods and defects of the new conditions, the defects 2 SD above the goods for both; the champion's scores have drifted."""
    rng = np.random.default_rng(0)
    refused = {"as deployed": 0, "as strict": 0}
    for _ in range(200):
        fresh = rng.normal(drift_sd, 1.0, N_FRESH)
        champion, challenger = rng.normal(drift_sd + 2.0, 1.0, N_LABELLED), rng.normal(2.0, 1.0, N_LABELLED)
        for how, limit in (("as deployed", THRESHOLD), ("as strict", _limit(fresh))):
            refused[how] += not recall_gate(champion > limit, challenger > THRESHOLD).passed
    level = 1.0 - GOLDEN_CONFIDENCE  # of the test, where the two are equally good
    assert refused["as strict"] <= 200 * level + 3 * (200 * level * (1 - level)) ** 0.5
    assert refused["as deployed"] > 2 * refused["as strict"] + 20


def test_a_challenger_that_forgot_them_is_refused_beside_a_drifted_champion_too() -> None:
    rng = np.random.default_rng(1)
    passed = 0
    for _ in range(200):
        fresh = rng.normal(2.0, 1.0, N_FRESH)
        champion, challenger = rng.normal(7.0, 1.0, N_LABELLED), rng.normal(0.5, 1.0, N_LABELLED)
        passed += recall_gate(champion > _limit(fresh), challenger > THRESHOLD).passed
    assert passed == 0


def test_where_chance_explains_what_it_rejects_a_champion_is_asked_at_its_threshold() -> None:
    rng = np.random.default_rng(2)
    limits = np.array([_limit(rng.normal(0.0, 1.0, N_FRESH)) for _ in range(500)])
    assert (limits != THRESHOLD).mean() < 0.03
    assert _limit(np.empty(0)) == THRESHOLD


def test_defects_that_are_usual_among_the_fresh_images_are_no_drift() -> None:
    fresh = np.concatenate([np.zeros(85), np.full(5, 9.0)])
    assert _limit(fresh) == 9.0
    assert _limit(fresh, defect_share=0.05) == THRESHOLD
