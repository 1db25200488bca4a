"""How often the closed loop keeps its promises on real tiles, over seeds: before, after, and the night after.

    python -m benchmarks.closed_loop_on_tiles --seeds 8

For each seed: fit on 300 goods; judge a good night, the same with a tenth of real defects, and disturbed nights of 100
goods each; retrain on each disturbed night's images as the retrain flow does; judge the night after under the same
disturbance. One row a disturbance; what is counted is what the acceptance test asks once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detectors.backbones.backbone import BackboneSpec
from detectors.backbones.building import build_runtime
from detectors.backbones.neighbourhood import NEIGHBOURHOOD
from detectors.families.patchcore import PatchCore
from detectors.fit import GoodImages, PreparedImage, fit_version
from detectors.photographs.canvases import InMemory
from detectors.photographs.framing import Framing
from detectors.photographs.images import list_images, read_photograph, to_uint8_rgb
from detectors.photographs.position import small_gray
from detectors.version import DetectorVersion
from drift.reference import Reference
from drift.verdict import Verdict, judge_lines
from drift.window import Window
from registry.curation import Candidate, curate, second_look
from registry.gates import auroc

TILES = Path(__file__).parents[2] / "shared" / "data" / "magnetic_tile"
N_FIT, N_NIGHT, N_BURST = 300, 100, 10
FIRST_NIGHT = date(2026, 8, 1)

Image = NDArray[np.uint8]


def blur(sigma_px: float) -> Callable[[Image], Image]:
    return lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), np.uint8)


def slip(px: int) -> Callable[[Image], Image]:
    moved = np.array([[1, 0, px], [0, 1, 0]], np.float32)
    return lambda image: np.asarray(
        cv2.warpAffine(image, moved, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def gamma(exponent: float) -> Callable[[Image], Image]:
    table = np.rint(255.0 * (np.arange(256) / 255.0) ** exponent).astype(np.uint8)
    return lambda image: table[image]


DISTURBANCES: dict[str, Callable[[Image], Image]] = {
    "blur 2 px": blur(2.0),
    "slip 12 px": slip(12),
    "blur 1 px": blur(1.0),
    "gamma 1.6": gamma(1.6),
}


@dataclass(frozen=True, slots=True)
class After:
    """One disturbance of one seed."""

    verdict: Verdict
    fpr_before: float
    auroc_before: float
    verdict_after: Verdict
    fpr_after: float
    auroc_after: float


def prepared(images: Sequence[Image], framing: Framing) -> GoodImages:
    each = tuple(
        PreparedImage(Path(str(i)), str(i), InMemory.of(framing.frame(image)), small_gray(image), _appearance(image))
        for i, image in enumerate(images)
    )
    return GoodImages(each, (), 0, framing, 255)


def _appearance(image: Image) -> dict[str, float]:
    from detectors.photographs.covariates import measure_appearance

    return measure_appearance(image, original_size=image.shape[:2])


def window_of(version: DetectorVersion, images: Sequence[Image], night: date) -> Window:
    judged = [version.score(image) for image in images]
    names = version.reference_covariates
    return Window(
        night=night,
        scores=np.array([each.score for each in judged]),
        covariates={name: np.array([each.covariates[name] for each in judged]) for name in names},
    )


def check(version: DetectorVersion, windows: Sequence[Window]) -> Verdict:
    reference = Reference(version.reference_scores, version.reference_covariates)
    (verdict,) = judge_lines([(reference, windows)])
    return verdict


def rejected(version: DetectorVersion, window: Window) -> float:
    return float((window.scores > version.threshold.value).mean())


def run_seed(seed: int, runtime: object, goods: list[Image], defects: list[Image]) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    order = [goods[i] for i in rng.permutation(len(goods))]
    some_defects = [defects[i] for i in rng.choice(len(defects), 100, replace=False)]

    def fit(images: Sequence[Image]) -> DetectorVersion:
        return fit_version(
            prepared(images, Framing(256)),
            family=PatchCore,
            runtime=runtime,  # type: ignore[arg-type]
            fpr_budget=0.01,
            seed=0,
        )

    champion = fit(order[:N_FIT])
    night, with_defects, fresh, later = (order[N_FIT + i * N_NIGHT :][:N_NIGHT] for i in range(4))
    good_window = window_of(champion, night, FIRST_NIGHT)
    mixed = with_defects[N_BURST:] + some_defects[:N_BURST]
    burst_window = window_of(champion, mixed, FIRST_NIGHT + timedelta(1))
    found: dict[str, object] = {
        "good": check(champion, [good_window]),
        "burst": check(champion, [good_window, burst_window]),
        "fpr": rejected(champion, good_window),
    }
    n_second = 0
    for name, disturb in DISTURBANCES.items():
        tonight = [disturb(image) for image in fresh]
        window = window_of(champion, tonight, FIRST_NIGHT + timedelta(2))
        verdict = check(champion, [good_window, burst_window, window])
        chosen = _curated(champion, tonight, window, verdict)
        challenger = fit(chosen)
        outliers = second_look(
            challenger.reference_scores,
            own_reference=challenger.reference_scores,
            reference_scores=champion.reference_scores,
            cleared=np.zeros(len(chosen), bool),
        )
        if outliers.size:
            challenger = fit([image for i, image in enumerate(chosen) if i not in outliers])
        n_second += outliers.size
        after = window_of(challenger, [disturb(image) for image in later], FIRST_NIGHT + timedelta(3))
        bad = [disturb(image) for image in some_defects]
        before_bad, after_bad = (np.array([v.score(image).score for image in bad]) for v in (champion, challenger))
        found[name] = After(
            verdict,
            rejected(champion, window),
            auroc(window.scores, before_bad),
            check(challenger, [after]),
            rejected(challenger, after),
            auroc(after.scores, after_bad),
        )
    print(f"seed {seed}: {n_second} of {len(DISTURBANCES) * N_NIGHT} goods left out by the second look", flush=True)
    return found


def _curated(champion: DetectorVersion, images: list[Image], window: Window, verdict: Verdict) -> list[Image]:
    candidates = [Candidate(str(i), str(i), float(score), None) for i, score in enumerate(window.scores)]
    chosen = curate(
        candidates,
        reference_scores=champion.reference_scores,
        threshold=champion.threshold.value,
        defect_share=verdict.defect_share,
        fpr_budget=0.01,
        small_images={str(i): small_gray(image) for i, image in enumerate(images)},
        seed=0,
    ).chosen
    return [images[int(each.sha256)] for each in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    asked = parser.parse_args()
    goods, defects = (
        [to_uint8_rgb(read_photograph(path).pixels, white_level=255) for path in list_images(TILES / kind)]
        for kind in ("good", "defect")
    )
    runtime = build_runtime(BackboneSpec(), neighbourhood=NEIGHBOURHOOD)
    results = [run_seed(seed, runtime, goods, defects) for seed in range(asked.seeds)]
    good = [r["good"] for r in results]
    burst = [r["burst"] for r in results]
    shifts = np.array([v.tonight.estimate for v in good])
    print(f"\ngood nights: {_kinds(good)}; bulk shift {shifts.mean():+.2f}, largest {np.abs(shifts).max():.2f} SD; "
          f"false positives {np.mean([r['fpr'] for r in results]):.2%}")  # fmt: skip
    print(f"with 10 % of real defects: {_kinds(burst)}")
    print("| disturbance | verdict | false positives before | AUROC before | the night after | false positives after "
          "(largest) | shift after (largest) | AUROC after |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for name in DISTURBANCES:
        rows = [r[name] for r in results]
        after = np.array([row.verdict_after.tonight.estimate for row in rows])
        fpr = np.array([row.fpr_after for row in rows])
        print(f"| {name} | {_kinds([row.verdict for row in rows])} | {np.mean([row.fpr_before for row in rows]):.0%} | "
              f"{np.mean([row.auroc_before for row in rows]):.3f} | {_kinds([row.verdict_after for row in rows])} | "
              f"{fpr.mean():.1%} ({fpr.max():.0%}) | {after.mean():+.2f} ({np.abs(after).max():.2f}) | "
              f"{np.mean([row.auroc_after for row in rows]):.3f} |")  # fmt: skip


def _kinds(verdicts: Sequence[Verdict]) -> str:
    kinds = [verdict.kind for verdict in verdicts]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))


if __name__ == "__main__":
    main()
