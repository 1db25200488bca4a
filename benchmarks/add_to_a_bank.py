"""How long does `halfsigma retrain LINE --add DIR` of fifty images on a deployed PatchCore bank take, all of the command?

    python -m benchmarks.add_to_a_bank --repeats 3

For each repeat: a line in a home of its own is fitted on 300 goods of the tiles by the command line, then fifty others are
added by it. What is timed is the process from its start to its end, with its imports, Prefect's temporary server, the fit
of challenger and twin, the gates, the registration and the promotion. Exit status 1 if it was not promoted, or if the
median is above `LIMIT_S`.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from detectors.photographs.images import list_images
from tests.acceptance.station import ROOT, Station

TILES = ROOT.parent / "shared" / "data" / "magnetic_tile"
N_FIT, N_ADDED = 300, 50
LIMIT_S = 15.0


def write_images(folder: Path, *, seed: int) -> None:
    """Disjoint goods to fit on and to add."""
    goods = list_images(TILES / "good")
    order = iter(np.random.default_rng(seed).permutation(len(goods)).tolist())
    for name, n in (("fit", N_FIT), ("added", N_ADDED)):
        (folder / name).mkdir()
        for _ in range(n):
            source = goods[next(order)]
            shutil.copy(source, folder / name / source.name)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    took, all_promoted = [], True
    print("| repeat | fit, s | retrain --add, s | state | gates that failed |\n|---|---|---|---|---|", flush=True)
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder), seed=repeat)
            station = Station(Path(folder) / "home")
            started = time.perf_counter()
            station("fit", "tiles", "--good", Path(folder) / "fit", "--detector", "patchcore")
            fitted = time.perf_counter()
            grown = station("retrain", "tiles", "--add", Path(folder) / "added")
            took.append(time.perf_counter() - fitted)
        gates = grown["retrain"]["gates"]
        failed = ", ".join(gate["name"] for gate in gates if not gate["passed"]) or "none"
        all_promoted &= grown["state"] == "promoted"
        print(f"| {repeat} | {fitted - started:.1f} | {took[-1]:.1f} | {grown['state']} | {failed} |", flush=True)
    median = statistics.median(took)
    print(
        f"\nretrain --add of {N_ADDED} images: median {median:.1f} s, longest {max(took):.1f} s, limit {LIMIT_S:.0f} s"
    )
    return 0 if all_promoted and median <= LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
