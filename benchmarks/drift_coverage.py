"""How often the intervals of the mean and the bulk shift cover the true shift.

python benchmarks/drift_coverage.py --repeats 1500
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from drift_operating_characteristic import FAMILIES, FIRST, Line

from drift.measurement import measure_tonight
from drift.nights import summarise
from drift.settings import DriftSettings
from drift.window import Window


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    for rho, n, n_reference in ((0.0, 400, 300), (0.0, 100, 60), (0.6, 400, 300), (0.3, 100, 100)):
        for family in FAMILIES:
            rng = np.random.default_rng(options.seed)
            line = Line(rng, family=family, rho=rho, n=n, n_reference=n_reference, settings=DriftSettings())
            shown = []
            for shift in (0.0, 1.0):
                bulk = mean = 0
                for _ in range(options.repeats):
                    line.renew()
                    night = Window(night=FIRST, scores=line.scores(n, rho) + shift)
                    m = measure_tonight(line.base, [summarise(line.base, night)], night, settings=line.settings)
                    assert m.tonight is not None
                    bulk += m.tonight.low <= shift <= m.tonight.high
                    mean += m.mean.low <= shift <= m.mean.high
                shown.append(f"shift {shift:g}: bulk {bulk / options.repeats:.3f} mean {mean / options.repeats:.3f}")
            print(f"rho {rho} n {n} reference {n_reference} {family:8s} {'  '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
