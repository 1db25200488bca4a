"""How long the check of many lines takes, scores in memory.

python benchmarks/drift_speed.py --lines 1000 --scores 2000 --nights 1
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from drift.reference import Reference
from drift.verdict import judge_lines
from drift.window import Window

COVARIATES = ("brightness", "contrast", "sharpness", "noise", "offset_x", "offset_y", "rotation", "saturation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--scores", type=int, default=2000)
    parser.add_argument("--nights", type=int, default=1)
    parser.add_argument("--covariates", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    names = COVARIATES if options.covariates else ()

    def columns(n: int) -> dict[str, np.ndarray]:
        return {name: rng.normal(0.5, 0.02, n) for name in names}

    start = time.perf_counter()
    cases = []
    for _ in range(options.lines):
        reference = Reference(scores=rng.gamma(4.0, 1.0, 300), covariates=columns(300))
        windows = [
            Window(
                night=date(2026, 1, 1) + timedelta(night),
                scores=rng.gamma(4.0, 1.0, options.scores),
                covariates=columns(options.scores),
            )
            for night in range(options.nights)
        ]
        cases.append((reference, windows))
    made = time.perf_counter()
    wall, cpu = time.perf_counter(), time.process_time()
    judge_lines(cases)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{options.lines} lines x {options.scores} scores x {options.nights} nights, {len(names)} covariates: "
        f"{wall:.2f} s ({cpu:.2f} s of one core); made in {made - start:.1f} s"
    )


if __name__ == "__main__":
    main()
