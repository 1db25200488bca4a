from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from drift.reference import Reference
from drift.verdict import Verdict, judge_lines
from drift.window import Window

N = 120


@pytest.fixture
def reference(rng: np.random.Generator) -> Reference:
    return Reference(scores=rng.normal(5.0, 1.0, 200), covariates=pictures(rng, 200))


def pictures(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    return {
        "brightness": rng.normal(0.5, 0.02, n),
        "contrast": rng.normal(0.2, 0.01, n),
        "saturation": np.zeros(n),
        "width": np.full(n, 640.0),
        "height": np.full(n, 480.0),
    }


def check(reference: Reference, rng: np.random.Generator, *, hashes: tuple[str, ...] = (), **covariates) -> Verdict:
    night = Window(
        night=date(2026, 1, 1),
        scores=rng.normal(5.0, 1.0, N),
        covariates=pictures(rng, N) | covariates,
        image_hashes=hashes or tuple(f"{i:x}" for i in range(N)),
    )
    return judge_lines([(reference, [night])])[0]


def test_a_black_camera_is_a_sensor_fault(reference, rng) -> None:
    verdict = check(reference, rng, brightness=np.zeros(N), contrast=np.zeros(N), saturation=np.ones(N))
    assert (verdict.kind, verdict.fault) == ("sensor_fault", "black")
    assert "are black" in verdict.explanation


def test_a_saturated_camera_is_a_sensor_fault(reference, rng) -> None:
    verdict = check(reference, rng, brightness=np.ones(N), contrast=np.zeros(N), saturation=np.ones(N))
    assert (verdict.kind, verdict.fault) == ("sensor_fault", "saturated")


def test_a_frozen_frame_is_a_sensor_fault(reference, rng) -> None:
    verdict = check(reference, rng, hashes=tuple(["aa"] * 40 + [f"{i:x}" for i in range(80)]))
    assert (verdict.kind, verdict.fault) == ("sensor_fault", "frozen")


def test_another_picture_size_is_a_sensor_fault(reference, rng) -> None:
    assert check(reference, rng, width=np.full(N, 320.0)).fault == "wrong_size"


def test_sound_pictures_are_no_fault(reference, rng) -> None:
    assert check(reference, rng).kind == "stable"


def test_a_few_repeated_pictures_are_no_frozen_camera(reference, rng) -> None:
    assert check(reference, rng, hashes=tuple(f"{i // 2:x}" for i in range(N))).fault is None


def part(rng: np.random.Generator, n: int, *, light: float, contrast: float, detail: float, grain: float) -> dict:
    brightness = rng.normal(light, 0.02, n)
    spread = rng.normal(contrast, 0.01, n)
    return {
        "brightness": brightness,
        "contrast": spread,
        "sharpness": rng.normal(detail, 0.1, n),
        "noise": rng.normal(grain, 0.001, n),
    }


def test_another_part_on_the_belt_is_named_and_a_darker_softer_picture_of_the_same_part_is_not(rng) -> None:
    usual = part(rng, 200, light=0.5, contrast=0.2, detail=-1.0, grain=0.02)
    reference = Reference(scores=rng.normal(5.0, 1.0, 200), covariates=usual)

    def kind(covariates: dict) -> tuple[str, str | None]:
        night = Window(night=date(2026, 1, 1), scores=rng.normal(20.0, 2.0, N), covariates=covariates)
        verdict = judge_lines([(reference, [night])])[0]
        return verdict.kind, verdict.fault

    other = part(rng, N, light=0.8, contrast=0.05, detail=-4.0, grain=0.02)
    assert kind(other) == ("sensor_fault", "another_part")
    aged = {
        name: values.copy() for name, values in part(rng, N, light=0.3, contrast=0.12, detail=-4.0, grain=0.006).items()
    }
    assert kind(aged) == ("drift", None)


def test_a_few_unreadable_files_are_no_fault_of_the_camera(reference, rng) -> None:
    night = Window(night=date(2026, 1, 1), scores=rng.normal(5.0, 1.0, N), covariates=pictures(rng, N), n_unreadable=20)
    assert judge_lines([(reference, [night])])[0].kind == "stable"
