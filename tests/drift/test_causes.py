"""A world in which every disturbance does what it does by a known law: what is named can be compared with the truth."""

from __future__ import annotations

import math
from datetime import date

import numpy as np
import pytest

from drift.causes import find_causes
from drift.reference import Reference
from drift.responses import Response
from drift.verdict import judge_lines
from drift.window import Window

N_REFERENCE, N = 300, 200
USUAL = {"brightness": 0.5, "contrast": 0.2, "sharpness": -1.0, "noise": 0.02, "offset_x": 0.0, "offset_y": 0.0}
SPREAD = {"brightness": 0.05, "contrast": 0.02, "sharpness": 0.2, "noise": 0.002, "offset_x": 0.04, "offset_y": 0.04}


def gain(by: float) -> tuple[dict[str, float], float]:
    return {"brightness": 0.5 * (by - 1), "contrast": 0.2 * (by - 1), "noise": 0.02 * (by - 1)}, 4.0 * abs(by - 1)


def defocus(px: float) -> tuple[dict[str, float], float]:
    return {"sharpness": -0.8 * px, "noise": 0.02 * (math.exp(-0.6 * px) - 1)}, 2.0 * px


def shift(px: float, direction_deg: float) -> tuple[dict[str, float], float]:
    angle = math.radians(direction_deg)
    return {"offset_x": 0.004 * px * math.cos(angle), "offset_y": -0.004 * px * math.sin(angle)}, 0.25 * px


def pictures(rng: np.random.Generator, n: int, move: dict[str, float] | None = None) -> dict[str, np.ndarray]:
    return {name: rng.normal(USUAL[name] + (move or {}).get(name, 0.0), SPREAD[name], n) for name in USUAL}


def response(kind: str, strength: float, direction_deg: float, law: tuple[dict[str, float], float]) -> Response:
    move, score_shift = law
    usual = {name: (value - SPREAD[name], value + SPREAD[name]) for name, value in USUAL.items()}
    disturbed = {name: tuple(value + move.get(name, 0.0) for value in values) for name, values in usual.items()}
    return Response(kind, strength, direction_deg, usual, disturbed, (score_shift, score_shift))


@pytest.fixture
def reference(rng: np.random.Generator) -> Reference:
    responses = [response("gain", by, 0.0, gain(by)) for by in (0.85, 0.65, 1.15, 1.4)]
    responses += [response("defocus", px, 0.0, defocus(px)) for px in (0.6, 1.2, 2.4)]
    responses += [response("shift", px, a, shift(px, a)) for a in (0.0, 90.0, 180.0, 270.0) for px in (5.0, 15.0)]
    return Reference(rng.normal(5.0, 1.0, N_REFERENCE), pictures(rng, N_REFERENCE), responses=tuple(responses))


def causes_of(reference: Reference, rng: np.random.Generator, *laws: tuple[dict[str, float], float]):
    move: dict[str, float] = {}
    for moved, _ in laws:
        for name, value in moved.items():
            move[name] = move.get(name, 0.0) + value
    bulk_shift_sd = sum(score for _, score in laws) / reference.sd
    return find_causes(reference, pictures(rng, N, move), n_effective=N, bulk_shift_sd=bulk_shift_sd)


@pytest.mark.parametrize("by", [0.55, 0.75, 1.25])
def test_a_lamp_is_named_with_its_strength(reference, rng, by) -> None:
    found = causes_of(reference, rng, gain(by))
    assert found.main is not None
    assert (found.main.name, found.main.disturbance) == ("brightness", "gain")
    assert found.main.strength == pytest.approx(by, abs=0.06)
    assert found.main.share == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("px", [0.5, 1.0, 2.0, 3.0])
def test_a_blur_is_named_in_pixels(reference, rng, px) -> None:
    found = causes_of(reference, rng, defocus(px))
    assert found.main is not None
    assert found.main.strength == pytest.approx(px, rel=0.2)
    assert found.main.phrase.endswith("px softer")


@pytest.mark.parametrize("direction_deg", [0.0, 30.0, 135.0, 200.0, 300.0])
def test_a_slip_in_any_direction_is_named_with_its_way(reference, rng, direction_deg) -> None:
    found = causes_of(reference, rng, shift(12.0, direction_deg))
    assert found.main is not None and found.main.disturbance == "shift"
    assert found.main.strength == pytest.approx(12.0, rel=0.3)
    assert abs((found.main.direction_deg - direction_deg + 180.0) % 360.0 - 180.0) <= 25.0


def test_two_causes_share_the_shift_and_the_larger_share_comes_first(reference, rng) -> None:
    found = causes_of(reference, rng, gain(0.75), defocus(2.0))  # 1 and 4 score units
    assert [cause.disturbance for cause in found.causes[:2]] == ["defocus", "gain"]
    assert found.causes[0].share == pytest.approx(0.8, abs=0.12)
    assert found.causes[1].share == pytest.approx(0.2, abs=0.12)


def test_a_move_that_no_disturbance_makes_is_none_of_these(reference, rng) -> None:
    found = causes_of(reference, rng, ({"contrast": 0.12, "offset_x": 0.0, "sharpness": 1.0}, 3.0))
    assert found.main is None
    assert {cause.name for cause in found.causes} == {"contrast", "sharpness"}
    assert all(cause.share is None for cause in found.causes)


def test_a_disturbance_that_cannot_have_moved_the_scores_so_far_is_none_of_these(reference, rng) -> None:
    move, _ = gain(0.8)
    found = causes_of(reference, rng, (move, 8.0))
    assert found.main is None
    assert found.causes[0].name in ("brightness", "contrast", "noise")


def test_scores_that_stayed_are_no_reason_to_name_nothing(reference, rng) -> None:
    responses = tuple(response("gain", by, 0.0, (gain(by)[0], 0.0)) for by in (0.85, 0.65))
    deaf = Reference(reference.scores, reference.covariates, responses=responses)
    found = causes_of(deaf, rng, (gain(0.7)[0], 0.0))
    assert found.main is not None and found.main.disturbance == "gain"
    assert found.main.share is None


def test_a_quiet_night_has_no_cause(reference, rng) -> None:
    assert sum(causes_of(reference, rng).main is not None for _ in range(100)) <= 1


def test_without_responses_only_the_moves_are_told(reference, rng) -> None:
    bare = Reference(reference.scores, reference.covariates)
    found = causes_of(bare, rng, defocus(1.5))
    assert found.main is None
    assert found.causes[0].name == "sharpness" and "softer" in found.causes[0].phrase


def test_the_explanation_says_what_happened_and_how_much_it_explains(reference, rng) -> None:
    move, score_shift = defocus(1.2)
    night = Window(
        night=date(2026, 8, 14), scores=rng.normal(5.0 + score_shift, 1.0, N), covariates=pictures(rng, N, move)
    )
    verdict = judge_lines([(reference, [night])])[0]
    assert verdict.kind == "drift"
    assert "px softer, which explains about" in verdict.explanation
    document = verdict.to_dict()
    assert document["main_cause"] == "sharpness"
    assert document["causes"][0]["disturbance"] == "defocus"


def test_the_reference_comes_back_with_its_responses(reference) -> None:
    again = Reference.from_json(reference.to_json())
    assert tuple(again.responses) == reference.responses
    as_in_the_artifact = [response.to_json() for response in reference.responses]
    assert (
        tuple(Reference.from_json(reference.to_json() | {"responses": as_in_the_artifact}).responses)
        == reference.responses
    )
