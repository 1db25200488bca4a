from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from drift.reference import Reference
from drift.verdict import judge, judge_lines, measure
from drift.window import Window
from halfsigma import DriftError, ScoreError

CONTRACT_KEYS = {
    "night", "verdict", "n", "n_effective", "shift_sd", "shift_ci", "bulk_shift_sd", "bulk_shift_ci", "ks",
    "causes", "explanation",
}  # fmt: skip

Nights = Callable[..., list[Window]]


def kind(reference: Reference, windows: list[Window]) -> str:
    return judge_lines([(reference, windows)])[0].kind


def test_quiet_nights_are_stable(reference: Reference, nights: Nights) -> None:
    assert kind(reference, nights([0.0] * 10)) == "stable"


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_shift_of_one_sd_is_drift_on_its_first_night_in_both_directions(
    reference: Reference, nights: Nights, sign: float
) -> None:
    verdict = judge_lines([(reference, windows := nights([0.0] * 5 + [sign]))])[0]
    assert verdict.kind == "drift"
    assert verdict.changed_on == windows[-1].night
    assert verdict.bulk_shift.low < sign < verdict.bulk_shift.high


def test_a_lasting_quarter_of_a_sd_warns_and_is_no_drift(reference: Reference, nights: Nights) -> None:
    verdict = judge_lines([(reference, windows := nights([0.0] * 10 + [0.25] * 8))])[0]
    assert verdict.kind == "warning"
    assert abs((verdict.changed_on - windows[10].night).days) <= 2


def test_a_ramp_warns_and_says_when_it_will_cross(reference: Reference, nights: Nights) -> None:
    verdict = judge_lines([(reference, nights([0.0] * 8 + [0.05 * i for i in range(1, 8)], n=2000))])[0]
    assert verdict.kind == "warning"
    assert verdict.trend is not None
    assert verdict.trend.low - 1.0 <= 3.0 <= verdict.trend.high + 1.0


def test_a_line_that_was_repaired_is_no_longer_called_drift(reference: Reference, nights: Nights) -> None:
    windows = nights([0.0] * 10 + [1.0] * 5 + [0.2] * 8)
    kinds = [kind(reference, windows[: k + 1]) for k in range(10, len(windows))]
    assert kinds[:5] == ["drift"] * 5
    assert set(kinds[5:]) <= {"stable", "warning"}
    quiet = nights([0.0] * 10 + [1.0] * 5 + [0.0] * 12)
    assert [kind(reference, quiet[: k + 1]) for k in range(17, len(quiet))] == ["stable"] * 10


def test_one_bad_night_is_not_remembered_as_a_lasting_shift(reference: Reference, nights: Nights) -> None:
    windows = nights([0.0] * 10 + [3.0] + [0.0] * 6)
    assert [kind(reference, windows[: k + 1]) for k in range(10, len(windows))] == ["drift"] + ["stable"] * 6


def test_a_detector_that_stands_still_is_a_fault_and_no_part_of_the_history(
    reference: Reference, nights: Nights
) -> None:
    windows = nights([0.0] * 6)
    windows[3:5] = [replace(each, scores=np.full(each.n, reference.mean)) for each in windows[3:5]]
    verdict = judge_lines([(reference, windows[:5])])[0]
    assert (verdict.kind, verdict.fault) == ("sensor_fault", "stuck_scores")
    assert "400 of 400 images have the very same score" in verdict.explanation
    assert len(measure(reference, windows).nights) == 4
    half = replace(windows[5], scores=np.where(np.arange(400) % 2, windows[5].scores, reference.mean))
    assert kind(reference, [half]) == "sensor_fault"


def test_a_detector_that_counts_in_steps_does_not_stand_still() -> None:
    rng = np.random.default_rng(3)
    counts = Reference(scores=rng.poisson(0.5, 300).astype(float))
    assert kind(counts, [Window(night=date(2026, 1, 1), scores=rng.poisson(0.5, 400))]) == "stable"


@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize("step", [1.0, 0.5])
def test_scores_in_steps_are_judged_as_the_same_scores_without(step: float, shift: float) -> None:
    estimates, kinds = [], set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        usual, tonight = rng.normal(10.0, 1.0, 300), rng.normal(10.0 + shift, 1.0, 400)
        of_steps = Reference(scores=np.round(usual / step) * step)
        verdict = judge_lines([(of_steps, [Window(night=date(2026, 1, 1), scores=np.round(tonight / step) * step)])])[0]
        kinds.add(verdict.kind)
        estimates.append(verdict.tonight.estimate)
    assert kinds == {"drift" if shift else "stable"}
    assert np.mean(estimates) == pytest.approx(shift, abs=0.06)
    assert np.std(estimates) < 0.12  # 0.08 for scores without steps


def test_copies_of_a_picture_count_once(reference: Reference, nights: Nights) -> None:
    night = nights([0.0], n=40)[0]
    hashes = tuple(f"{k:064x}" for k in range(40))
    once = replace(night, image_hashes=hashes)
    copied = replace(night, scores=np.tile(night.scores, 4), image_hashes=hashes * 4)
    one, four = measure(reference, [once]), measure(reference, [copied])
    assert (four.n_effective, four.tonight, four.ks_p) == (one.n_effective, one.tonight, one.ks_p)


def test_idle_lines_cost_the_others_no_power(reference: Reference, nights: Nights) -> None:
    tonight = nights([0.8], n=60)
    idle = [Window(night=tonight[0].night, scores=np.empty(0))]
    alone = judge_lines([(reference, tonight)])[0]
    among = judge_lines([(reference, tonight), *[(reference, idle)] * 50])
    assert among[0] == alone
    assert {each.kind for each in among[1:]} == {"insufficient"}
    assert {each.ks.q for each in among[1:]} == {1.0}


def test_a_night_of_labelled_defects_alone_says_so(reference: Reference) -> None:
    night = Window(night=date(2026, 1, 1), scores=np.empty(0), n_known_defects=12)
    assert judge_lines([(reference, [night])])[0].explanation.startswith(
        "All 12 images of this night are labelled defects"
    )


def test_a_defect_burst_never_starts_a_retrain(reference: Reference, nights: Nights) -> None:
    kinds = {kind(reference, nights([0.0] * 3, n=200, defects=share)) for share in (0.05, 0.1, 0.2) for _ in range(20)}
    assert "defect_burst" in kinds
    assert "drift" not in kinds


def test_a_shift_just_beyond_half_a_sigma_is_drift_at_once_only_if_the_pictures_moved_with_it(
    reference: Reference, rng: np.random.Generator
) -> None:
    """The night is the reference itself, 0.57 SD higher: above 0.5, and below 0.5 and one standard error."""
    usual = {"brightness": rng.normal(0.5, 0.02, reference.n)}
    line = Reference(reference.scores, usual)

    def night(day: int, brightness: float | None) -> Window:
        quantiles = np.quantile(reference.scores, (np.arange(300) + 0.5) / 300) + 0.57 * reference.sd
        covariates = {} if brightness is None else {"brightness": rng.normal(brightness, 0.02, 300)}
        return Window(night=date(2026, 1, day), scores=rng.permutation(quantiles), covariates=covariates)

    alone = {brightness: kind(line, [night(1, brightness)]) for brightness in (0.5, 0.6, None)}
    assert alone == {0.5: "warning", 0.6: "drift", None: "drift"}
    assert kind(line, [night(1, 0.5), night(2, 0.5)]) == "drift"


def test_a_burst_on_top_of_a_shift_is_drift_with_the_burst_named(reference: Reference, nights: Nights) -> None:
    verdict = judge_lines([(reference, nights([0.0] * 3 + [1.0], defects=0.15))])[0]
    assert verdict.kind == "drift"
    assert verdict.burst
    assert "defects on top" in verdict.explanation


@pytest.mark.parametrize("n", [0, 1, 2, 3, 12])
def test_a_handful_of_images_is_insufficient_and_says_how_many_are_missing(
    reference: Reference, nights: Nights, n: int
) -> None:
    verdict = judge_lines([(reference, nights([0.0] * 3)[:-1] + nights([0.0] * 3, n=n)[-1:])])[0]
    assert verdict.kind == "insufficient"
    assert f"{verdict.n_missing} more images" in verdict.explanation
    json.dumps(verdict.to_dict(), allow_nan=False)


@pytest.mark.parametrize("n_reference", [100, 300])
def test_a_hundred_images_against_a_usual_reference_are_enough(n_reference: int, nights: Nights, rng) -> None:
    reference = Reference(scores=rng.normal(size=n_reference))
    night = Window(night=date(2026, 1, 1), scores=rng.normal(size=100))
    assert kind(reference, [night]) != "insufficient"


@pytest.mark.parametrize(("n_reference", "n"), [(99, 60), (99, 100), (300, 100)])
def test_a_burst_on_few_images_is_told_although_it_hides_the_bulk(
    n_reference: int, n: int, nights: Nights, rng
) -> None:
    """A fifth of the night are defects: what is not known of the bulk then is no lack of images."""
    kinds = []
    for _ in range(20):
        reference = Reference(scores=rng.normal(size=n_reference))
        windows = nights([0.0] * 3, n=n)
        samples = [rng.normal(size=n) for _ in windows]
        samples[-1][: n // 5] += 4.0
        kinds.append(
            kind(reference, [replace(w, scores=rng.permutation(s)) for w, s in zip(windows, samples, strict=True)])
        )
    assert kinds.count("defect_burst") >= 16


@pytest.mark.parametrize("share", [0.8, 0.9])
def test_a_detector_that_says_zero_of_most_goods_is_watched(share: float, rng: np.random.Generator) -> None:
    """Its bulk is flat: without any spread of its own a night is not certain beyond measure, nor for ever unknown."""

    def scores(n: int) -> np.ndarray:
        return np.where(rng.uniform(size=n) < share, 0.0, rng.uniform(1.0, 2.0, n))

    reference = Reference(scores=scores(300))
    quiet = [Window(night=date(2026, 1, day), scores=scores(200)) for day in (1, 2, 3)]
    verdict = judge_lines([(reference, quiet)])[0]
    assert verdict.kind == "stable"
    assert "nan" not in verdict.explanation
    assert math.isfinite(verdict.bulk_shift.low)
    moved = [*quiet[:2], Window(night=date(2026, 1, 3), scores=scores(200) + 5.0)]
    assert kind(reference, moved) == "drift"


def test_a_night_of_equal_scores_is_judged_without_dividing_by_zero(reference: Reference) -> None:
    night = Window(night=date(2026, 1, 1), scores=np.full(100, reference.mean + 3 * reference.sd))
    assert judge_lines([(reference, [night])])[0].bulk_shift.estimate == pytest.approx(3.2, abs=0.4)


def test_the_dictionary_has_the_contracts_keys_and_is_json(reference: Reference, nights: Nights) -> None:
    document = judge_lines([(reference, nights([0.0, 1.0]))])[0].to_dict()
    assert set(document) >= CONTRACT_KEYS
    assert set(document["ks"]) == {"statistic", "p", "q"}
    json.dumps(document, allow_nan=False)


def test_the_same_measurement_is_judged_the_same_twice(reference: Reference, nights: Nights) -> None:
    measured = measure(reference, nights([0.0, 0.4]))
    assert judge(measured, q=0.001) == judge(measured, q=0.001)


def test_a_large_q_forbids_drift(reference: Reference, nights: Nights) -> None:
    measured = measure(reference, nights([0.0, 1.0]))
    assert judge(measured, q=0.011).kind != "drift"
    assert judge(measured, q=0.01).kind == "drift"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_named_by_its_place(bad: float) -> None:
    with pytest.raises(ScoreError, match=r"number 2 of 3 is .*expected a finite number"):
        Window(night=date(2026, 1, 1), scores=[1.0, bad, 2.0])


def test_a_constant_reference_is_refused() -> None:
    with pytest.raises(ScoreError, match="all 5 scores of the reference are equal"):
        Reference(scores=[1.0] * 5)


def test_nights_out_of_order_are_refused(reference: Reference, nights: Nights) -> None:
    with pytest.raises(DriftError, match="not in order"):
        measure(reference, nights([0.0, 0.0])[::-1])


def test_a_reference_comes_back_from_json_as_it_was(reference: Reference) -> None:
    again = Reference.from_json(json.loads(json.dumps(reference.to_json())))
    assert np.array_equal(again.scores, reference.scores)
