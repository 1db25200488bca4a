"""What a retrain may learn from: hand-made nights, in which it is known of every image whether it should stay."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from halfsigma import TooFewImages
from registry.curation import (
    MAX_FRESH,
    MIN_FRESH,
    N_TO_LOOK_AT,
    TWIN_DIFFERENCE,
    Candidate,
    Curation,
    curate,
    second_look,
)
from registry.suspicion import Suspicion

REFERENCE = np.random.default_rng(0).normal(10.0, 1.0, 300)
THRESHOLD = 13.0
Small = dict[str, NDArray[np.float32]]


def _candidates(scores: NDArray[np.float64], labels: dict[int, str] | None = None) -> list[Candidate]:
    labels = labels or {}
    return [Candidate(f"{k:064x}", f"{k}.png", float(score), labels.get(k)) for k, score in enumerate(scores)]


def _small(candidates: list[Candidate]) -> Small:
    rng = np.random.default_rng(1)
    return {each.sha256: rng.random((16, 16), np.float32) for each in candidates}


def _curate(
    candidates: list[Candidate],
    *,
    small: Small | None = None,
    defect_share: float = 0.0,
    judge: Suspicion | None = None,
    has_core: bool = False,
) -> Curation:
    return curate(
        candidates,
        reference_scores=REFERENCE,
        threshold=THRESHOLD,
        defect_share=defect_share,
        fpr_budget=0.01,
        small_images=_small(candidates) if small is None else small,
        seed=0,
        judge=judge,
        has_core=has_core,
    )


def _judge(candidates: list[Candidate], scores: NDArray[np.float64]) -> Suspicion:
    """To which goods score about 5."""
    judged = {each.sha256: float(score) for each, score in zip(candidates, scores, strict=True)}
    return Suspicion(judged, np.random.default_rng(9).normal(5.0, 1.0, 200), "drift transfer")


def _reasons(curation: Curation, candidates: list[Candidate]) -> dict[int, str]:
    number = {each.sha256: k for k, each in enumerate(candidates)}
    return {number[sha256]: reason for sha256, reason in curation.left_out.items()}


def test_a_quiet_night_is_kept_but_for_the_few_that_the_champion_rejects() -> None:
    scores = np.full(100, 10.0) + np.linspace(-1.5, 1.5, 100)
    scores[[3, 60]] = 15.0, 14.0
    candidates = _candidates(scores)
    curation = _curate(candidates)
    # ceil(1 % of 100) = 1: the worst of the two suspects
    assert _reasons(curation, candidates) == {
        3: "suspect: to the champion it scores high even when tonight's drift is taken away"
    }
    assert [each.sha256 for each in curation.chosen] == [each.sha256 for k, each in enumerate(candidates) if k != 3]


def test_a_night_that_drifted_as_a_whole_keeps_its_goods_and_loses_its_defects() -> None:
    rng = np.random.default_rng(2)
    goods = rng.normal(40.0, 2.0, 90)  # 30 sigma away and twice as wide: the champion rejects them all
    defects = rng.normal(70.0, 3.0, 10)
    candidates = _candidates(np.r_[goods, defects])
    curation = _curate(candidates, defect_share=0.1)
    assert {k for k in _reasons(curation, candidates) if k >= 90} == set(range(90, 100))
    assert len([k for k in _reasons(curation, candidates) if k < 90]) <= 1
    assert 44.0 < curation.limit < 75.0


def test_no_more_suspects_go_than_the_share_of_defects_asks_for() -> None:
    scores = np.r_[np.random.default_rng(3).normal(10.0, 1.0, 80), np.full(20, 30.0)]
    assert len(_curate(_candidates(scores), defect_share=0.05).left_out) == 6  # ceil(0.06 * 100)
    assert len(_curate(_candidates(scores), defect_share=0.3).left_out) >= 20


def test_what_a_person_called_good_stays_and_what_they_called_a_defect_goes() -> None:
    scores = np.full(80, 10.0) + np.linspace(-1, 1, 80)
    scores[5] = 50.0
    candidates = _candidates(scores, {5: "good", 6: "defect"})
    curation = _curate(candidates, defect_share=0.2)
    assert _reasons(curation, candidates) == {6: "a person called it a defect"}


def test_a_file_that_is_gone_is_left_out_with_that_reason() -> None:
    candidates = _candidates(np.linspace(9, 11, 80))
    small = _small(candidates)
    del small[candidates[7].sha256]
    assert _reasons(_curate(candidates, small=small), candidates) == {7: "the file is gone, altered or unreadable"}


def test_a_frozen_camera_gives_one_image_and_not_fifty() -> None:
    candidates = _candidates(np.linspace(9, 11, 120))
    small = _small(candidates)
    for k in range(31, 60):
        small[candidates[k].sha256] = small[candidates[30].sha256] + np.float32(TWIN_DIFFERENCE / 2)
    reasons = _reasons(_curate(candidates, small=small), candidates)
    assert reasons == dict.fromkeys(range(31, 60), "nearly the same picture as one just before it")


def test_what_a_person_called_good_is_never_left_out_as_a_copy_of_what_nobody_looked_at() -> None:
    scores = np.linspace(9.0, 11.0, 80)
    scores[30:34] = 50.0  # suspects, had nobody said what the part is
    candidates = _candidates(scores, {31: "good", 32: "good"})
    small = _small(candidates)
    for k in range(31, 34):
        small[candidates[k].sha256] = small[candidates[30].sha256] + np.float32(TWIN_DIFFERENCE / 10)
    curation = _curate(candidates, small=small, defect_share=0.2)
    assert _reasons(curation, candidates) == {
        30: "nearly the same picture as one that a person called good",
        32: "nearly the same picture as one just before it",
        33: "nearly the same picture as one just before it",
    }
    assert [each.sha256 for each in curation.chosen] == [
        each.sha256 for k, each in enumerate(candidates) if k not in (30, 32, 33)
    ]


def test_an_image_of_two_nights_counts_once() -> None:
    candidates = _candidates(np.linspace(9, 11, 60))
    curation = _curate([*candidates, *candidates[:10]], small=_small(candidates))
    assert len(curation.chosen) == 60
    assert not curation.left_out


def test_of_too_many_a_repeatable_draw_is_kept_in_capture_order() -> None:
    candidates = _candidates(np.random.default_rng(4).normal(10, 0.5, MAX_FRESH + 40))
    small = {each.sha256: np.full((2, 2), k / 10, np.float32) for k, each in enumerate(candidates)}
    first, again = _curate(candidates, small=small), _curate(candidates, small=small)
    assert first.chosen == again.chosen
    assert len(first.chosen) == MAX_FRESH
    order = [int(each.sha256, 16) for each in first.chosen]
    assert order == sorted(order)
    assert len(first.chosen) + len(first.left_out) == len(candidates)


@pytest.mark.parametrize("n", [0, 1, MIN_FRESH - 1])
def test_too_few_say_how_many_are_missing(n: int) -> None:
    with pytest.raises(TooFewImages, match=f"{n} fresh good images of {n}, .*: {MIN_FRESH - n} are missing"):
        _curate(_candidates(np.linspace(9.0, 11.0, n)))


def test_equal_scores_are_no_division_by_zero() -> None:
    assert len(_curate(_candidates(np.full(60, 10.0))).chosen) == 60


def test_a_second_look_finds_the_defect_that_the_drifted_champion_could_not_tell() -> None:
    rng = np.random.default_rng(0)
    goods, reference = rng.normal(17.0, 0.5, 148), rng.normal(16.0, 0.4, 200)
    scores = np.insert(goods, [20, 90], [23.8, 21.1])
    nobody = np.zeros(150, bool)
    assert second_look(scores, own_reference=scores, reference_scores=reference, cleared=nobody).tolist() == [20, 91]
    assert second_look(goods, own_reference=goods, reference_scores=reference, cleared=nobody[:148]).tolist() == []


def test_a_second_look_leaves_what_a_person_cleared_and_never_takes_more_than_a_twentieth() -> None:
    rng = np.random.default_rng(1)
    scores = np.r_[rng.normal(17.0, 0.5, 90), np.full(10, 30.0)]
    cleared = np.zeros(100, bool)
    reference = rng.normal(16.0, 0.4, 200)
    assert len(second_look(scores, own_reference=scores, reference_scores=reference, cleared=cleared)) == 5
    cleared[90:] = True
    assert second_look(scores, own_reference=scores, reference_scores=reference, cleared=cleared).tolist() == []


def test_a_second_look_learns_from_verified_goods_how_far_out_rare_ones_lie() -> None:
    rng = np.random.default_rng(2)
    reference, scores = rng.lognormal(0.0, 1.0, 300), rng.lognormal(0.5, 1.0, 120)
    assert (
        second_look(scores, own_reference=scores, reference_scores=reference, cleared=np.zeros(120, bool)).tolist()
        == []
    )


def test_a_second_look_at_a_trained_family_is_not_misled_by_what_it_learned_from() -> None:
    """The 200 images that it learned from lie closer together than the 100 that were held out."""
    rng = np.random.default_rng(3)
    held_out, learned = rng.normal(17.0, 0.5, 100), rng.normal(16.8, 0.2, 200)
    scores, nobody = np.r_[held_out, learned], np.zeros(300, bool)
    reference = rng.normal(16.0, 0.4, 99)
    assert second_look(scores, own_reference=held_out, reference_scores=reference, cleared=nobody).size == 0
    assert second_look(scores, own_reference=scores, reference_scores=reference, cleared=nobody).size > 0


def _burst(n_good: int, n_defect: int, labels: dict[int, str] | None = None) -> tuple[list[Candidate], Suspicion]:
    """The champion finds nothing unusual; to the judge the last ones are defects."""
    rng = np.random.default_rng(6)
    candidates = _candidates(rng.normal(40.0, 2.0, n_good + n_defect), labels)
    return candidates, _judge(candidates, np.r_[rng.normal(5.3, 1.0, n_good), np.linspace(12.0, 14.0, n_defect)])


def test_a_judge_that_knows_the_conditions_names_the_defects_that_the_champion_cannot_tell() -> None:
    candidates, judge = _burst(270, 12)
    curation = _curate(candidates, judge=judge)
    gone = set(_reasons(curation, candidates))
    assert gone >= set(range(270, 282)) and len(gone) <= 30
    assert curation.limit <= 12.0 and not curation.waits
    assert len(gone) - 12 <= curation.n_perhaps_good <= len(gone)
    assert curation.n_defects == max(math.ceil(curation.defect_share * 282) - len(gone), 0)
    assert all("to drift transfer" in reason for reason in curation.left_out.values())
    assert not {k for k in _reasons(_curate(candidates), candidates) if k >= 270} >= {270, 281}


def test_a_night_with_many_defects_waits_until_each_of_the_most_suspicious_has_a_label() -> None:
    candidates, judge = _burst(170, 30)
    curation = _curate(candidates, judge=judge)
    assert 0.1 < curation.defect_share < 0.35
    assert curation.waits.endswith("label the 20 most suspicious ones, 20 of them are not labelled yet")
    worst = [int(each.sha256, 16) for each in curation.to_look_at]
    assert worst == list(range(199, 199 - N_TO_LOOK_AT, -1))
    labels = dict.fromkeys(worst, "defect") | {worst[3]: "good"}
    some, _ = _burst(170, 30, dict(list(labels.items())[:12]))
    assert _curate(some, judge=judge).waits.endswith("8 of them are not labelled yet")
    labelled, _ = _burst(170, 30, labels)
    done = _curate(labelled, judge=judge)
    assert [each.sha256 for each in done.to_look_at] == [each.sha256 for each in curation.to_look_at]
    assert not done.waits and candidates[worst[3]].sha256 in {each.sha256 for each in done.chosen}


def test_what_a_person_found_is_counted_against_the_estimated_share() -> None:
    candidates, judge = _burst(170, 30)
    n_gone = len(_curate(candidates, judge=judge).left_out)
    labelled, _ = _burst(170, 30, dict.fromkeys(range(180, 200), "defect"))
    assert len(_curate(labelled, judge=judge).left_out) == n_gone


def test_where_people_found_few_defects_among_the_worst_no_more_is_held_back_for_the_estimate() -> None:
    """A judge to which the night is strange expects many; twenty answers count for more."""
    rng = np.random.default_rng(8)
    wide = np.r_[rng.normal(7.0, 1.9, 280), np.linspace(15.0, 16.0, 20)]

    def curated(labels: dict[int, str] | None) -> Curation:
        candidates = _candidates(rng.normal(40.0, 2.0, 300), labels)
        return _curate(candidates, judge=_judge(candidates, wide), has_core=True)

    unseen, worst = curated(None), range(280, 300)
    good, bad = curated(dict.fromkeys(worst, "good")), curated(dict.fromkeys(worst, "defect"))
    assert unseen.waits and unseen.defect_share > 0.2
    assert good.defect_share == pytest.approx(2.0 * 20 / 21 / 300)
    assert len(good.held_back) < 0.4 * len(unseen.held_back)
    assert bad.defect_share == unseen.defect_share
    some = curated(dict.fromkeys(worst, "good") | {299: "defect", 298: "defect"})
    assert good.defect_share < some.defect_share < unseen.defect_share


def test_of_a_night_of_thousands_as_large_a_share_is_held_back_and_expected_as_of_a_small_one() -> None:
    """What was counted of 5,000 images would be nearly all of the 500 that are learned from."""
    shares = []
    for n in (400, 5000):
        rng = np.random.default_rng(n)
        candidates = _candidates(rng.normal(40.0, 2.0, n))
        goods, bad = rng.normal(5.0, 1.0, n - n // 20), rng.normal(9.0, 0.5, n // 20)
        curation = _curate(candidates, judge=_judge(candidates, np.r_[goods, bad]), has_core=True)
        counts = (len(curation.held_back), curation.n_defects, curation.n_perhaps_good)
        shares.append(np.array(counts) / len(curation.chosen))
    assert shares[1] == pytest.approx(shares[0], abs=0.03)


def test_a_copy_of_what_a_person_called_a_defect_is_left_out_unless_they_called_it_good() -> None:
    candidates = _candidates(np.linspace(9.0, 11.0, 80), {40: "defect", 42: "good"})
    small = _small(candidates)
    for copy in (39, 41, 42):
        small[candidates[copy].sha256] = small[candidates[40].sha256] + np.float32(1e-5)
    reasons = _reasons(_curate(candidates, small=small), candidates)
    assert set(reasons) == {39, 40, 41}
    assert reasons[39] == reasons[41] == "nearly the same picture as one that a person called a defect"


def test_a_picture_of_no_part_is_left_out_and_nobody_is_asked_to_look_at_it() -> None:
    candidates = _candidates(np.linspace(9, 11, 80))
    candidates[4] = replace(candidates[4], score=99.0, fault="wrong_size")
    curation = _curate(candidates)
    assert _reasons(curation, candidates) == {4: "no picture of a part: wrong size"}
    assert candidates[4] not in curation.to_look_at


def test_of_many_images_the_cleared_ones_are_always_chosen() -> None:
    candidates = _candidates(np.linspace(9.0, 11.0, 700), dict.fromkeys(range(0, 700, 40), "good"))
    curation = _curate(candidates)
    assert len(curation.chosen) == MAX_FRESH
    assert {each.sha256 for each in curation.chosen} >= {candidates[k].sha256 for k in range(0, 700, 40)}
