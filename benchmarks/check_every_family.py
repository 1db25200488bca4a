"""Does `nightly` mend a drift of real tiles on a line of each family, through the command line alone?

    python -m benchmarks.check_every_family

For each family, in a home of its own: fit on 300 goods; a night of goods as they were, which must be no drift; a night through
a blurred lens, which must be drift, be retrained and promoted in one `nightly`; the night after it, of which the new
champion may reject no more than by chance (budget 1 %), and which must be stable; and a rollback. Exit status 1 if one step is not as it
should be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import binom

from detectors.families.names import FAMILIES
from detectors.photographs.images import list_images
from tests.acceptance.station import ROOT, Station

TILES = ROOT.parent / "shared" / "data" / "magnetic_tile"
N_FIT, N_NIGHT = 300, 150
QUIET, BLURRED, AFTER = "2026-08-01", "2026-08-02", "2026-08-03"
BLUR_SIGMA_PX = 2.0
FPR_BUDGET = 0.01
SEED = 20261127
MOST_REJECTED = int(binom.isf(0.01, N_NIGHT, 2.0 * FPR_BUDGET))
"""Of a night, by a version whose threshold, drawn from some hundred images, rejects twice its budget."""


def write_images(folder: Path) -> None:
    """Disjoint goods: to fit on, a night as it was, and two through a blurred lens."""
    goods = list_images(TILES / "good")
    order = iter(np.random.default_rng(SEED).permutation(len(goods)).tolist())
    for name, n, blurred in (
        ("fit", N_FIT, False),
        (QUIET, N_NIGHT, False),
        (BLURRED, N_NIGHT, True),
        (AFTER, N_NIGHT, True),
    ):
        (folder / name).mkdir()
        for index in range(n):
            image = np.asarray(cv2.imread(str(goods[next(order)]), cv2.IMREAD_GRAYSCALE))
            seen = cv2.GaussianBlur(image, (0, 0), BLUR_SIGMA_PX) if blurred else image
            cv2.imwrite(str(folder / name / f"{index:03d}.png"), seen)


def check(family: str, home: Path, images: Path) -> bool:
    """One row of the table; whether all was as it should be."""
    station = Station(home)
    started = time.monotonic()
    station("fit", "tiles", "--good", images / "fit", "--detector", family)
    fitted = time.monotonic()
    station("ingest", "tiles", images / QUIET, "--night", QUIET)
    (quiet,) = station("nightly", "--night", QUIET)["lines"]
    before = station("ingest", "tiles", images / BLURRED, "--night", BLURRED)
    asked = time.monotonic()
    (night,) = station("nightly", "--night", BLURRED)["lines"]
    mended = time.monotonic()
    after = station("ingest", "tiles", images / AFTER, "--night", AFTER)
    verdict = station("check", "tiles", "--night", AFTER)["verdict"]
    restored = station("rollback", "tiles")["champion"]
    retrain = night["retrain"] or {}
    failed = [gate["name"] for gate in retrain.get("gates", ()) if not gate["passed"]]
    well = (
        quiet["check"]["verdict"] == "stable"
        and night["check"]["verdict"] == "drift"
        and retrain.get("state") == "promoted"
        and night["champion"] == after["version"] == 2
        and after["n_reject"] <= MOST_REJECTED
        and verdict == "stable"
        and restored == 1
    )
    print(
        f"| {family} | {fitted - started:.0f} s | {quiet['check']['verdict']} | {night['check']['verdict']}, "
        f"{night['check']['bulk_shift_sd']:+.1f} SD, {before['n_reject']} rejected | {retrain.get('state')}"
        f"{' by ' + ', '.join(failed) if failed else ''} | {mended - asked:.0f} s | {after['n_reject']} rejected, {verdict} | "
        f"{'yes' if well else '**no**'} |",
        flush=True,
    )
    return well


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", action="append", choices=sorted(FAMILIES))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        images.mkdir()
        write_images(images)
        print(
            "| family | fit | quiet night | blurred night | retrain | `nightly` took | night after | as it should be |"
        )
        print("|---" * 8 + "|", flush=True)
        all_well = [check(family, Path(folder, family), images) for family in asked.family or sorted(FAMILIES)]
    sys.exit(0 if all(all_well) else 1)


if __name__ == "__main__":
    main()
