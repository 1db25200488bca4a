"""Is the cause of a drift named right? Random disturbances of real photographs, kinds that halfsigma does not know mixed in.

    python -m benchmarks.attribution_on_tiles --images ../shared/data/magnetic_tile --cases 200 --seed 0

One version is fitted on 300 goods. Every case draws a disturbance, its strength and direction, and a night of 100 of the
other goods disturbed alike; the night is checked as `halfsigma check` does. About a third of the cases are of kinds that
no response was measured for (vignette, glare, drops, scratches, dirt, …): there the right answer is "none of these".
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import date
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detectors.backbones.backbone import BackboneSpec
from detectors.backbones.building import build_runtime
from detectors.backbones.neighbourhood import NEIGHBOURHOOD
from detectors.disturbances.disturbance import Disturbance, disturb
from detectors.families.names import family_named
from detectors.fit import fit_version, prepare, with_responses
from detectors.photographs.framing import Framing
from detectors.photographs.images import list_images, read_photograph
from detectors.version import DetectorVersion
from drift.causes import COVARIATES_OF
from drift.reference import Reference
from drift.responses import Response
from drift.verdict import Verdict, judge_lines
from drift.window import Window

Image = NDArray[np.uint8]
N_FIT, N_NIGHT = 300, 100
KNOWN_SHARE = 0.67
KNOWN: dict[str, tuple[tuple[float, float], ...]] = {
    "gain": ((0.4, 0.8), (1.2, 1.7)), "gamma": ((0.5, 0.8), (1.25, 1.8)), "gradient": ((0.2, 0.6),),
    "defocus": ((0.5, 2.5),), "motion": ((2.5, 9.0),), "noise": ((0.008, 0.05),), "shift": ((4.0, 18.0),),
    "rotation": ((0.8, 5.0), (-5.0, -0.8)), "scale": ((1.03, 1.1), (0.9, 0.97)), "dead_pixels": ((0.001, 0.01),),
    "jpeg": ((15.0, 60.0),),
}  # fmt: skip
"""Kinds with responses, and strengths (their ranges) that are neither those of the responses nor too weak to matter."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    paths = list_images(options.images / "good")
    order = rng.permutation(len(paths))
    version = _fit([paths[i] for i in order[:N_FIT]], options.seed)
    photographs = [np.asarray(read_photograph(paths[i]).pixels, np.uint8) for i in order[N_FIT:]]
    reference = Reference(
        version.reference_scores,
        version.reference_covariates,
        responses=tuple(Response.from_json(response.to_json()) for response in version.responses),
    )

    answers: dict[str, Counter[str]] = defaultdict(Counter)
    right, right_alarmed, n_alarmed = 0, 0, 0
    for case in range(options.cases):
        kind, strength, change = _draw(rng, seed=case)
        night = [change(photographs[i]) for i in rng.choice(len(photographs), N_NIGHT, replace=False)]
        verdict = judge_lines([(reference, [_window(version, night)])])[0]
        named = _named(verdict)
        is_right = named in COVARIATES_OF[kind] if kind in KNOWN else named == "none"
        alarmed = verdict.kind in ("drift", "warning", "sensor_fault")
        right, right_alarmed, n_alarmed = right + is_right, right_alarmed + (is_right and alarmed), n_alarmed + alarmed
        answers[kind]["right" if is_right else f"wrong: {named}"] += 1
        if not is_right:
            told = verdict.causes[0].phrase if verdict.causes else "nothing"
            print(f"{kind} {strength:.3g}: {verdict.kind} {verdict.tonight.estimate:+.2f} SD, named {named}; {told}")
    print(f"\nall {right}/{options.cases} = {right / options.cases:.1%}; of the nights with an alarm "
          f"{right_alarmed}/{n_alarmed} = {right_alarmed / max(n_alarmed, 1):.1%}")  # fmt: skip
    for kind, counts in sorted(answers.items(), key=lambda item: (item[0] not in KNOWN, item[0])):
        print(f"  {'' if kind in KNOWN else 'unseen: '}{kind:12s} {dict(counts)}")


def _fit(paths: list[Path], seed: int) -> DetectorVersion:
    goods = prepare(paths, framing=Framing(side_px=256), white_level=255)
    runtime = build_runtime(BackboneSpec(), neighbourhood=NEIGHBOURHOOD)
    version = fit_version(goods, family=family_named("patchcore"), runtime=runtime, fpr_budget=0.01, seed=seed)
    started = time.perf_counter()
    version = with_responses(version, goods, seed=seed)
    print(f"{len(version.responses)} responses in {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return version


def _window(version: DetectorVersion, night: list[Image]) -> Window:
    scored = [version.score(image) for image in night]
    return Window(
        night=date(2026, 11, 24),
        scores=np.array([each.score for each in scored]),
        covariates={name: np.array([each.covariates[name] for each in scored]) for name in scored[0].covariates},
    )


def _named(verdict: Verdict) -> str:
    return verdict.main_cause.name if verdict.main_cause else "none"


def _draw(rng: np.random.Generator, *, seed: int) -> tuple[str, float, Callable[[Image], Image]]:
    """Kind, strength and the change itself."""
    if rng.uniform() < KNOWN_SHARE:
        kind = str(rng.choice(list(KNOWN)))
        strength = float(rng.uniform(*KNOWN[kind][rng.integers(len(KNOWN[kind]))]))
        change = Disturbance(kind, round(strength) if kind == "jpeg" else strength, float(rng.uniform(0, 360)), seed)
        return kind, strength, lambda image: np.asarray(disturb(image, [change], rng), np.uint8)
    kind = str(rng.choice(list(UNSEEN)))
    effect, low, high = UNSEEN[kind]
    strength = float(rng.uniform(low, high))
    return kind, strength, lambda image: effect(image, strength, np.random.default_rng(seed))


def _of_ours(kind: str) -> Callable[[Image, float, np.random.Generator], Image]:
    return lambda image, strength, rng: np.asarray(
        disturb(image, [Disturbance(kind, strength, seed=int(rng.integers(1 << 30)))], np.random.default_rng()),
        np.uint8,
    )


def _plane(image: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[-1 : 1 : image.shape[0] * 1j, -1 : 1 : image.shape[1] * 1j]
    return x, y


def _per_pixel(image: Image, factor: NDArray[np.floating] | float, add: NDArray[np.floating] | float) -> Image:
    def spread(values: NDArray[np.floating] | float) -> NDArray[np.floating]:
        full = np.broadcast_to(np.asarray(values, np.float64), image.shape[:2])
        return full if image.ndim == 2 else full[..., None]

    return np.clip(np.rint(image * spread(factor) + spread(add)), 0, 255).astype(np.uint8)


def _vignette(image: Image, strength: float, rng: np.random.Generator) -> Image:
    x, y = _plane(image)
    return _per_pixel(image, 1.0 - strength * (x**2 + y**2) / 2.0, 0.0)


def _glare(image: Image, strength: float, rng: np.random.Generator) -> Image:
    x, y = _plane(image)
    at = rng.uniform(-0.5, 0.5, 2)
    return _per_pixel(image, 1.0, 255 * strength * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 0.05))


def _warp(image: Image, strength: float, rng: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    dx, dy = (
        cv2.resize(rng.normal(size=(8, 8)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        for _ in range(2)
    )
    moved = cv2.remap(image, x + strength * dx, y + strength * dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def _scratches(image: Image, strength: float, rng: np.random.Generator) -> Image:
    scratched = image.copy()
    for _ in range(round(strength)):
        ends = (rng.uniform(0, 1, (2, 2)) * image.shape[1::-1]).astype(int)
        cv2.line(scratched, tuple(ends[0]), tuple(ends[1]), (int(rng.uniform(0, 255)),) * 3, 1, cv2.LINE_AA)
    return scratched


def _stripes(image: Image, strength: float, rng: np.random.Generator) -> Image:
    return _per_pixel(image, 1.0, 255 * strength * np.sin(2 * np.pi * np.arange(image.shape[1]) / 9.0)[None, :])


def _drops(image: Image, strength: float, rng: np.random.Generator) -> Image:
    blurred, height, width = cv2.GaussianBlur(image, (0, 0), 4.0).astype(np.float64) * 1.1, *image.shape[:2]
    cover = np.zeros((height, width), np.float32)
    for _ in range(round(strength)):
        centre = int(rng.uniform(0.1, 0.9) * width), int(rng.uniform(0.1, 0.9) * height)
        cv2.circle(cover, centre, int(rng.uniform(0.03, 0.07) * width), 1.0, -1)
    cover = np.asarray(cv2.GaussianBlur(cover, (0, 0), 1.5))
    shown = cover if image.ndim == 2 else cover[..., None]
    return np.clip(image * (1 - shown) + blurred * shown, 0, 255).astype(np.uint8)


def _hair(image: Image, strength: float, rng: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    t = np.linspace(0.0, 1.0, 60)
    bend = rng.uniform(-0.3, 0.3, 2)
    points = np.stack([width * (0.1 + 0.8 * t), height * (0.5 + bend[0] * np.sin(5 * t) + bend[1] * t)], axis=1)
    shadow = np.zeros((height, width), np.float32)
    cv2.polylines(shadow, [points.astype(np.int32)], False, 1.0, 3)
    return _per_pixel(image, 1.0 - strength * cv2.GaussianBlur(shadow, (0, 0), 1.5), 0.0)


def _few_levels(image: Image, strength: float, rng: np.random.Generator) -> Image:
    step = 256 // round(strength)
    return np.asarray(image // step * step + step // 2, np.uint8)


UNSEEN: dict[str, tuple[Callable[[Image, float, np.random.Generator], Image], float, float]] = {
    "dirt": (_of_ours("dirt"), 0.03, 0.12), "banding": (_of_ours("banding"), 0.01, 0.06),
    "flicker": (_of_ours("flicker"), 0.05, 0.16), "vignette": (_vignette, 0.3, 0.8), "glare": (_glare, 0.15, 0.5),
    "warp": (_warp, 1.5, 4.0), "scratches": (_scratches, 3, 12), "stripes": (_stripes, 0.01, 0.05),
    "drops": (_drops, 3, 12), "hair": (_hair, 0.3, 0.8), "few_levels": (_few_levels, 8, 24),
}  # fmt: skip


if __name__ == "__main__":
    main()
