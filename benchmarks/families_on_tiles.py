"""Every family on real tiles: detection, time to fit, latency, and what a drift and a retrain do to it.

    python -m benchmarks.families_on_tiles --family efficientad --seeds 3

Times are of the clock and, in brackets, of the processors, which a machine at work on other things lengthens less. For
each seed: fit on 300 goods; AUROC and false positives on goods that nothing was fitted on against all defects; the latency
of one canvas beside that of the backbone alone. Then the lamp ages (gamma 1.6 and 0.8 of the light), or the lens blurs
(1.5 px): the old version on such images; a retrain on 300 such goods, warm from the old version and from scratch. The same
photographs judge before the drift and under it: 300 goods are there to fit, 300 to retrain, the rest to judge.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.closed_loop_on_tiles import TILES, Image, prepared
from detectors.backbones.backbone import BackboneSpec
from detectors.backbones.building import build_runtime
from detectors.backbones.neighbourhood import NEIGHBOURHOOD
from detectors.backbones.runtime import FeatureRuntime, usable_threads
from detectors.families.names import FAMILIES, family_named
from detectors.fit import fit_version
from detectors.photographs.framing import Framing
from detectors.photographs.images import list_images, read_photograph, to_uint8_rgb
from detectors.version import DetectorVersion
from registry.gates import auroc

N_FIT = 300
TIMED_IMAGES = 60
FPR_BUDGET = 0.01
BLUR_SIGMA_PX = 1.5
FRAMING = Framing(256)


def aged(image: Image) -> Image:
    """A lamp that gives less light, and less of it in the shadows."""
    table = np.rint(0.8 * 255.0 * (np.arange(256) / 255.0) ** 1.6).astype(np.uint8)
    return table[image]


def blurred(image: Image) -> Image:
    """A lens out of focus."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), BLUR_SIGMA_PX), np.uint8)


DRIFTS: dict[str, Callable[[Image], Image]] = {"lamp": aged, "blur": blurred}


def read(kind: str) -> list[Image]:
    return [to_uint8_rgb(read_photograph(path).pixels, white_level=255) for path in list_images(TILES / kind)]


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of a fit: of the clock and of the processors."""

    clock: float
    processors: float

    def __str__(self) -> str:
        return f"{self.clock:.1f} s ({self.processors:.1f})"


@dataclass(frozen=True, slots=True)
class State:
    """What a version is worth on the judging photographs."""

    auroc: float
    fpr: float

    @classmethod
    def of(cls, version: DetectorVersion, good: Sequence[Image], bad: Sequence[Image]) -> State:
        scores = judged(version, good)
        return cls(auroc(scores, judged(version, bad)), float((scores > version.threshold.value).mean()))

    def __str__(self) -> str:
        return f"{self.auroc:.3f}, {self.fpr:.1%}"


@dataclass(frozen=True, slots=True)
class Tried:
    """One family on one seed: the champion before the drift and under it, and the retrained versions under it."""

    before: State
    champion: State
    retrained: tuple[State, State]
    """Warm, from scratch."""
    spent: tuple[Spent, Spent]


def timed_fit(
    images: Sequence[Image], family: str, runtime: FeatureRuntime, warm_start: DetectorVersion | None = None
) -> tuple[DetectorVersion, Spent]:
    goods = prepared(images, FRAMING)
    if warm_start is not None:  # images are named by their place here, and these are others than the champion's
        fresh = tuple(replace(image, sha256=f"fresh{image.sha256}") for image in goods.prepared)
        goods = replace(goods, prepared=fresh)
    started, processors = time.perf_counter(), time.process_time()
    version = fit_version(
        goods,
        family=family_named(family),
        runtime=runtime,
        fpr_budget=FPR_BUDGET,
        seed=0,
        warm_start=warm_start,
    )
    return version, Spent(time.perf_counter() - started, time.process_time() - processors)


def judged(version: DetectorVersion, images: Sequence[Image]) -> NDArray[np.float64]:
    return np.array([version.model.score(FRAMING.frame(image)).score for image in images])


def latency_ms(version: DetectorVersion, runtime: FeatureRuntime) -> tuple[float, float]:
    """Medians of the model and of the backbone alone on one 256 px canvas, in turns."""
    canvas = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    times: list[tuple[float, float]] = []
    for _ in range(TIMED_IMAGES + 1):
        begin = time.perf_counter()
        version.model.score(canvas)
        middle = time.perf_counter()
        runtime.features(canvas)
        times.append((middle - begin, time.perf_counter() - middle))
    model, backbone = np.median(np.array(times[1:]), axis=0) * 1e3
    return float(model), float(backbone)


def run(
    family: str, drift: str, seed: int, runtime: FeatureRuntime, goods: list[Image], defects: list[Image]
) -> tuple[Tried, str]:
    """The figures, and the table's row."""
    order, changed = [goods[i] for i in np.random.default_rng(seed).permutation(len(goods))], DRIFTS[drift]
    fit, night, rest = order[:N_FIT], [changed(image) for image in order[N_FIT : 2 * N_FIT]], order[2 * N_FIT :]
    champion, first = timed_fit(fit, family, runtime)
    before = State.of(champion, rest, defects)
    model_ms, backbone_ms = latency_ms(champion, runtime)
    later, later_bad = [changed(image) for image in rest], [changed(image) for image in defects]
    warm, warm_spent = timed_fit(night, family, runtime, champion)
    scratch, scratch_spent = timed_fit(night, family, runtime)
    states = [State.of(version, later, later_bad) for version in (champion, warm, scratch)]
    row = [
        str(first),
        f"{before.auroc:.3f}",
        f"{before.fpr:.1%}",
        f"{_offset(champion, judged(champion, rest)):+.2f}",
        f"{model_ms:.1f} / {backbone_ms:.1f} ms",
        str(states[0]),
        f"{warm_spent}, {states[1]}",
        f"{scratch_spent}, {states[2]}",
    ]
    tried = Tried(before, states[0], (states[1], states[2]), (warm_spent, scratch_spent))
    return tried, " | ".join(row)


def summary(tried: Sequence[Tried]) -> str:
    """Of all seeds of a family: how much faster, AUROC against that before the drift, false positives; ± is a standard error."""

    def mean(values: Sequence[float], digits: int, sign: str = "") -> str:
        error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        return f"{np.mean(values):{sign}.{digits}f} ± {error:.{digits}f}"

    cells = [f"{np.median([each.spent[1].clock / each.spent[0].clock for each in tried]):.1f}"]
    cells += [mean([each.retrained[i].auroc - each.before.auroc for each in tried], 3, "+") for i in (0, 1)]
    cells.append(mean([100.0 * each.before.fpr for each in tried], 1))
    cells += [mean([100.0 * each.retrained[i].fpr for each in tried], 1) for i in (0, 1)]
    return " | ".join(cells)


def _offset(version: DetectorVersion, test: NDArray[np.float64]) -> float:
    """Mean of new goods above the reference's, in its standard deviations: what the reference promises too much."""
    reference = version.reference_scores
    return float((test.mean() - reference.mean()) / reference.std(ddof=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", action="append", choices=sorted(FAMILIES))
    parser.add_argument("--drift", choices=sorted(DRIFTS), default="lamp")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    goods, defects = read("good"), read("defect")
    runtime = build_runtime(BackboneSpec(), neighbourhood=NEIGHBOURHOOD)
    print(f"{usable_threads()} threads; {len(goods)} goods, {len(defects)} defects; state = AUROC, false positives\n")
    print("| family, seed | fit | AUROC | false positives | new goods above the reference, SD | one image / backbone "
          f"alone | {asked.drift}, before | retrain warm | retrain from scratch |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    everything: dict[str, list[Tried]] = {}
    for family in asked.family or sorted(FAMILIES):
        for seed in range(asked.first, asked.first + asked.seeds):
            tried, row = run(family, asked.drift, seed, runtime, goods, defects)
            everything.setdefault(family, []).append(tried)
            print(f"| {family}, {seed} | {row} |", flush=True)
    print("\n| family | warm is faster, times | AUROC after less before: warm | from scratch | false positives, %: before "
          "| after, warm | from scratch |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for family, of_family in everything.items():
        print(f"| {family} | {summary(of_family)} |")


if __name__ == "__main__":
    main()
