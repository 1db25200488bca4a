from __future__ import annotations

from datetime import date
from itertools import pairwise

import numpy as np
import pytest

from drift.expected_score import COPY_WEIGHT, RIDGE, ExpectedScore, _columns, _features
from drift.reference import Reference
from drift.responses import Response
from drift.verdict import Verdict, judge_lines
from drift.window import Window

N_REFERENCE, N, N_COPIES = 300, 400, 10
GAINS = (0.65, 0.85, 1.15, 1.4)
Pictures = dict[str, np.ndarray]


def pictures(rng: np.random.Generator, n: int) -> Pictures:
    """Parts of two shades: the bright ones saturate when the lamp gets brighter."""
    brightness = np.where(rng.uniform(size=n) < 0.5, 0.45, 0.65) + rng.normal(0.0, 0.02, n)
    return {"brightness": brightness, "contrast": rng.normal(0.2, 0.02, n), "saturation": rng.normal(0.01, 0.002, n)}


def lit(parts: Pictures, gain: float) -> Pictures:
    saturation = parts["saturation"] + np.maximum(parts["brightness"] * gain - 0.75, 0.0)
    return {"brightness": parts["brightness"] * gain, "contrast": parts["contrast"] * gain, "saturation": saturation}


def moved(parts: Pictures, gain: float) -> np.ndarray:
    """What a gain adds to the score: little to the dark parts, much to the bright ones."""
    return 1.5 * abs(gain - 1.0) + 25.0 * np.maximum(parts["brightness"] * gain - 0.75, 0.0)


@pytest.fixture
def lamp_line(rng: np.random.Generator) -> Reference:
    copies = pictures(rng, N_COPIES)
    plain = {name: tuple(values) for name, values in copies.items()}
    responses = [
        Response(
            "gain",
            gain,
            0.0,
            usual=plain,
            disturbed={name: tuple(values) for name, values in lit(copies, gain).items()},
            score_changes=tuple(moved(copies, gain)),
        )
        for gain in GAINS
    ]
    return Reference(rng.gamma(4.0, 0.5, N_REFERENCE), pictures(rng, N_REFERENCE), responses=tuple(responses))


def night(rng: np.random.Generator, *, gain: float = 1.0, defects: float = 0.0, odd: bool = False) -> Window:
    parts = pictures(rng, N)
    scores = rng.gamma(4.0, 0.5, N) + (moved(parts, gain) if gain != 1.0 else 0.0)
    covariates = lit(parts, gain)
    struck = rng.choice(N, round(defects * N), replace=False)
    scores[struck] += 3.0 + rng.gamma(2.0, 1.0, len(struck))
    if odd:
        covariates["saturation"][struck] += 0.1
    return Window(night=date(2026, 8, 14), scores=scores, covariates=covariates)


def judged(reference: Reference, window: Window) -> Verdict:
    return judge_lines([(reference, [window])])[0]


def test_a_lamp_that_moves_the_bright_parts_only_is_drift_and_no_burst(lamp_line, rng) -> None:
    for _ in range(20):
        verdict = judged(lamp_line, night(rng, gain=1.4))
        assert (verdict.kind, verdict.burst) == ("drift", False)
        assert verdict.bulk_shift.estimate > 1.0


def test_without_covariates_the_same_scores_look_like_a_burst(lamp_line, rng) -> None:
    bare = Reference(lamp_line.scores)
    lamp = night(rng, gain=1.4)
    assert judged(bare, Window(night=lamp.night, scores=lamp.scores)).burst


def test_a_burst_on_top_of_that_lamp_is_drift_with_the_burst_named(lamp_line, rng) -> None:
    verdicts = [judged(lamp_line, night(rng, gain=1.4, defects=0.2)) for _ in range(20)]
    assert {verdict.kind for verdict in verdicts} == {"drift"}
    assert sum(verdict.burst for verdict in verdicts) >= 18
    assert any("look like defects on top of it" in verdict.explanation for verdict in verdicts)


def test_defects_that_look_odd_are_a_burst_all_the_same(lamp_line, rng) -> None:
    for _ in range(20):
        verdict = judged(lamp_line, night(rng, defects=0.15, odd=True))
        assert verdict.kind == "defect_burst"
        assert abs(verdict.bulk_shift.estimate) < 0.3


def test_the_usual_residuals_are_those_of_images_that_the_regression_did_not_know(lamp_line) -> None:
    """By leaving each image out in turn and solving anew, with the augmented rows of a ridge as plain least squares."""
    found = ExpectedScore.of(lamp_line)
    assert found is not None
    own = _features(_columns(lamp_line.covariates, found.names), found.centre, found.spread)
    rows, targets = [], []
    for response in lamp_line.responses:
        before, after = (
            _features(_columns(part, found.names), found.centre, found.spread)
            for part in (response.usual, response.disturbed)
        )
        rows.append(np.sqrt(COPY_WEIGHT) * (after - before))
        targets.append(np.sqrt(COPY_WEIGHT) * np.array(response.score_changes))
    ridge = np.sqrt(RIDGE) * np.eye(own.shape[1])
    for left_out in range(0, N_REFERENCE, 37):
        kept = np.delete(np.arange(N_REFERENCE), left_out)
        middle, mean = own[kept].mean(axis=0), lamp_line.scores[kept].mean()
        design = np.concatenate([own[kept] - middle, *rows, ridge])
        target = np.concatenate([lamp_line.scores[kept] - mean, *targets, np.zeros(len(ridge))])
        coefficients = np.linalg.lstsq(design, target, rcond=None)[0]
        expected = mean + (own[left_out] - middle) @ coefficients
        assert found.usual[left_out] == pytest.approx(lamp_line.scores[left_out] - expected, abs=0.02)


def test_nothing_is_expected_without_responses_or_without_a_covariate(lamp_line, rng) -> None:
    assert ExpectedScore.of(Reference(lamp_line.scores, lamp_line.covariates)) is None
    found = ExpectedScore.of(lamp_line)
    assert found is not None
    assert found.residuals(rng.gamma(4.0, 0.5, 5), {"brightness": np.full(5, 0.5)}) is None


def test_a_brighter_lamp_leads_one_to_expect_higher_scores_of_bright_parts(lamp_line, rng) -> None:
    found = ExpectedScore.of(lamp_line)
    assert found is not None
    parts = {"brightness": np.full(4, 0.65), "contrast": np.full(4, 0.2), "saturation": np.full(4, 0.01)}
    expected = [
        -found.residuals(np.zeros(4), lit(parts, gain))[0]  # type: ignore[index]
        for gain in (1.0, 1.15, 1.4)
    ]
    assert all(later > earlier for earlier, later in pairwise(expected))
