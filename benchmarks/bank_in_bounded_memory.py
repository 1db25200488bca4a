"""A PatchCore bank over thousands of large images, from files to a calibrated version: time and real peak memory.

    .venv/bin/python -m benchmarks.bank_in_bounded_memory --images 5000 --side 512

The images are crops of scikit-image's photographs with noise, written as JPEG before the clock starts: only memory and
time are looked at. The peak is the operating system's (``ru_maxrss``) of the whole process, libraries included.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from detectors.backbones.backbone import BackboneSpec
from detectors.backbones.building import build_runtime
from detectors.backbones.neighbourhood import NEIGHBOURHOOD
from detectors.backbones.runtime import usable_threads
from detectors.families.names import family_named
from detectors.fit import fit_version, prepare
from detectors.photographs.framing import Framing
from detectors.photographs.images import list_images

JPEG_QUALITY = 90
NOISE_SD = 4.0


def write_images(folder: Path, n: int, *, side_px: int) -> None:
    """Gray crops of brick, grass and gravel, each at its own place and scale."""
    rng = np.random.default_rng(0)
    photographs = [data.brick(), data.grass(), data.gravel()]
    for k in range(n):
        photograph = photographs[k % len(photographs)]
        cut = int(rng.integers(200, min(photograph.shape)))
        top, left = rng.integers(0, np.array(photograph.shape) - cut + 1)
        crop = cv2.resize(photograph[top : top + cut, left : left + cut], (side_px, side_px))
        noisy = np.clip(crop + rng.normal(0.0, NOISE_SD, crop.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"part{k}.jpg"), noisy, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--side", type=int, default=512, help="of the canvases, in pixels")
    parser.add_argument("--detector", default="patchcore")
    options = parser.parse_args()
    told = [0.0]

    def tell(what: str, done: int, total: int) -> None:
        if time.monotonic() - told[0] > 10:
            told[0] = time.monotonic()
            print(f"{what} {done} of {total}, peak so far {_peak_mb():.0f} MB", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="bounded-memory-") as name:
        folder = Path(name)
        write_images(folder, options.images, side_px=options.side)
        runtime = build_runtime(BackboneSpec(), neighbourhood=NEIGHBOURHOOD)
        before = _peak_mb()
        started, processor = time.perf_counter(), time.process_time()
        goods = prepare(list_images(folder), framing=Framing(options.side), white_level=255, progress=tell)
        read = time.perf_counter() - started
        version = fit_version(
            goods, family=family_named(options.detector), runtime=runtime, fpr_budget=0.01, seed=0, progress=tell
        )
        seconds = time.perf_counter() - started
    print(
        f"{options.detector}, {options.images} images of {options.side} px, {usable_threads()} threads: {seconds:.0f} s "
        f"({read:.0f} s of it reading, {time.process_time() - processor:.0f} s of processors), peak {_peak_mb():.0f} MB "
        f"({before:.0f} MB before the first image), {len(version.reference_scores)} reference scores"
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
