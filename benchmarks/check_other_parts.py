"""Does `nightly` mend a drift of parts that are not tiles, in colour and in gray, rigid and textured, through the command line alone?

    python -m benchmarks.check_other_parts --part cup --drift "warmth 0.15"

The parts are photographs that scikit-image ships: one that lies in a fixture and is never quite the same (a cup, an
engine), and textures that are cut anywhere (tissue, gravel). Each is fitted on 200 goods; a night of others as they were must
be no drift. Then, for each drift from the same state: a night of 150 goods and three painted defects, one `nightly`, and a night
after it. What a version is worth is told by `evaluate` on 100 other goods and 100 painted defects under the drift. Exit
status 1 where a night as it was is called a drift, where a drift that rejects goods is not, or where the version that is
deployed in the end rejects more goods than by chance (budget 1 %).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import skimage
from scipy.stats import binom

from benchmarks.closed_loop_on_tiles import Image
from detectors.defects.simulated import perlin_noise
from detectors.defects.synthetic import random_defect
from detectors.disturbances.disturbance import Disturbance, disturb
from tests.acceptance.station import Station

N_FIT, N_NIGHT, N_BAD, N_JUDGE = 200, 150, 3, 100
FPR_BUDGET = 0.01
MOST_REJECTED = int(binom.isf(0.01, N_NIGHT, 2.0 * FPR_BUDGET))
"""Of a night's goods, by a version whose threshold rejects twice its budget."""
QUIET, CHANGED, AFTER = "2026-08-01", "2026-08-02", "2026-08-03"
SIDE_PX = 320
DRIFTS: dict[str, Disturbance] = {
    "warmth 0.15": Disturbance("warmth", 0.15),
    "defocus 1.5 px": Disturbance("defocus", 1.5),
    "gain 0.7": Disturbance("gain", 0.7),
    "shift 8 px": Disturbance("shift", 8.0, direction_deg=120.0),
    "jpeg 25": Disturbance("jpeg", 25.0),
}
Draw = Callable[[np.random.Generator], Image]


def rigid(file: str) -> Draw:
    """A part in a fixture: some jitter of its place and of the light, a surface that differs a little, noise."""
    whole = _read(file)
    factor = SIDE_PX / max(whole.shape[:2])
    whole = np.asarray(cv2.resize(whole, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
    height, width = whole.shape[:2]

    def draw(rng: np.random.Generator) -> Image:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0.0, 0.2), 1.0)
        turn[:, 2] += rng.normal(0.0, 1.0, 2)
        moved = cv2.warpAffine(whole, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        surface = 1.0 + 0.08 * perlin_noise((height, width), (8, 8), rng)
        return _taken(moved * surface[..., None], rng)

    return draw


def texture(file: str) -> Draw:
    """Cuts from anywhere, some light and noise of their own."""
    whole, side = _read(file), 240

    def draw(rng: np.random.Generator) -> Image:
        top, left = (int(rng.integers(length - side + 1)) for length in whole.shape[:2])
        return _taken(whole[top : top + side, left : left + side].astype(np.float32), rng)

    return draw


PARTS: dict[str, Callable[[], Draw]] = {
    "cup": lambda: rigid("coffee.png"),
    "engine": lambda: rigid("motorcycle_left.png"),
    "tissue": lambda: texture("ihc.png"),
    "gravel": lambda: texture("gravel.png"),
}
GRAY, TEXTURES = ("gravel",), ("tissue", "gravel")


def check(part: str, drifts: list[str], folder: Path) -> bool:
    """The rows of a part; whether all was as it should be."""
    rng, draw = np.random.default_rng(20261127), PARTS[part]()
    home = folder / "home"
    station = Station(home)
    _write(folder / "fit", [draw(rng) for _ in range(N_FIT)])
    _write(folder / QUIET, [draw(rng) for _ in range(N_NIGHT)])
    station("fit", "line", "--good", folder / "fit")
    station("ingest", "line", folder / QUIET, "--night", QUIET)
    (quiet,) = station("nightly", "--night", QUIET)["lines"]
    all_well = quiet["check"]["verdict"] != "drift"
    for drift in drifts:
        if (drift.startswith("warmth") and part in GRAY) or (drift.startswith("shift") and part in TEXTURES):
            continue  # nothing can be seen of it there
        own = folder / "".join(each for each in drift if each.isalnum())
        own.mkdir()
        all_well &= _drifted(
            part, drift, quiet["check"]["verdict"], Path(shutil.copytree(home, own / "home")), own, rng
        )
    return all_well


def _drifted(part: str, drift: str, quiet: str, home: Path, folder: Path, rng: np.random.Generator) -> bool:
    draw, station = PARTS[part](), Station(home)

    def taken(n: int, *, bad: bool = False) -> list[Image]:
        images = [draw(rng) for _ in range(n)]
        spoilt = [np.asarray(random_defect(image, rng).image, np.uint8) for image in images] if bad else images
        return [np.asarray(disturb(image, [DRIFTS[drift]], rng), np.uint8) for image in spoilt]

    _write(folder / "night", [*taken(N_NIGHT), *taken(N_BAD, bad=True)])
    _write(folder / "after", taken(N_NIGHT))
    _write(folder / "good", taken(N_JUDGE))
    _write(folder / "defect", taken(N_JUDGE, bad=True))
    judging = ("--good", folder / "good", "--defect", folder / "defect")
    before = station("evaluate", "line", *judging)
    station("ingest", "line", folder / "night", "--night", CHANGED)
    (night,) = station("nightly", "--night", CHANGED)["lines"]
    after = station("ingest", "line", folder / "after", "--night", AFTER)
    verdict = station("check", "line", "--night", AFTER)["verdict"]
    now = station("evaluate", "line", *judging)
    retrain, check = night["retrain"] or {}, night["check"]
    failed = [gate["name"] for gate in retrain.get("gates", ()) if not gate["passed"]]
    well = after["n_reject"] <= MOST_REJECTED and (check["verdict"] == "drift" or before["fpr"] <= 5 * FPR_BUDGET)
    causes = "; ".join(each["name"] for each in check["causes"][:2]) or "–"
    state = retrain.get("state", "–") + (" by " + ", ".join(failed) if failed else "")
    print(
        f"| {part} | {quiet} | {drift} | {check['verdict']}, {check['bulk_shift_sd']:+.1f} SD | {causes} | {state} | "
        f"{before['auroc']:.3f}, {before['fpr']:.0%} | {now['auroc']:.3f}, {now['fpr']:.0%} | "
        f"{after['n_reject']} rejected, {verdict} | {'yes' if well else '**no**'} |",
        flush=True,
    )
    if state not in ("promoted", "–"):
        print(f"<!-- {retrain.get('reason')} -->", flush=True)
    return well


def _taken(light: np.ndarray, rng: np.random.Generator) -> Image:
    seen = light * rng.normal(1.0, 0.02) + rng.normal(0.0, 2.0, light.shape)
    return np.asarray(np.clip(np.rint(seen), 0, 255), np.uint8)


def _read(file: str) -> Image:
    image = cv2.imread(str(Path(skimage.__file__).parent / "data" / file), cv2.IMREAD_COLOR)
    assert image is not None, f"scikit-image ships {file}"
    return np.asarray(image[..., ::-1], np.uint8)


def _write(folder: Path, images: list[Image]) -> None:
    folder.mkdir()
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f"{index:03d}.png"), np.ascontiguousarray(image[..., ::-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=sorted(PARTS))
    parser.add_argument("--drift", action="append", choices=sorted(DRIFTS))
    asked = parser.parse_args()
    print(
        "| part | quiet night | drift | night | causes | retrain | before: AUROC, false positives | deployed now | night after | "
        "as it should be |"
    )
    print("|---" * 10 + "|", flush=True)
    all_well = True
    for part in asked.part or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            all_well &= check(part, asked.drift or list(DRIFTS), Path(folder))
    sys.exit(0 if all_well else 1)


if __name__ == "__main__":
    main()
