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


def test_a_darker_lamp_is_named_as_the_cause(rng) -> None:
    usual = pictures(rng, 200)
    reference = Reference(scores=5.0 - 20.0 * (usual["brightness"] - 0.5) + rng.normal(0, 0.5, 200), covariates=usual)
    dark = pictures(rng, N)
    dark["brightness"] = dark["brightness"] - 0.05
    scores = 5.0 - 20.0 * (dark["brightness"] - 0.5) + rng.normal(0, 0.5, N)
    verdict = judge_lines([(reference, [Window(night=date(2026, 1, 1), scores=scores, covariates=dark)])])[0]
    assert verdict.kind == "drift"
    assert [cause.name for cause in verdict.causes] == ["brightness"]
    assert verdict.causes[0].share == pytest.approx(1.0, abs=0.3)
    assert "10 % darker" in verdict.explanation
