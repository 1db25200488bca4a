"""Bias, spread and efficiency of the bulk shift beside the mean's and the median's, with and without defects.

python benchmarks/drift_bulk_estimator.py --repeats 2000
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from drift_operating_characteristic import FAMILIES, GRID

from drift.nights import baseline, summarise
from drift.reference import Reference
from drift.window import Window

NIGHT = date(2026, 1, 1)
Scores = NDArray[np.float64]


def bulk(reference: Scores, night: Scores) -> float:
    summary = summarise(baseline(Reference(scores=reference)), Window(night=NIGHT, scores=night))
    assert summary is not None
    return summary.estimate


def moved(centre: Callable[[Scores], float]) -> Callable[[Scores, Scores], float]:
    return lambda reference, night: float(centre(night) - centre(reference)) / float(reference.std(ddof=1))


ESTIMATORS: dict[str, Callable[[Scores, Scores], float]] = {
    "mean": moved(np.mean),
    "median": moved(np.median),
    "bulk": bulk,
}
DEFECTS: dict[str, Callable[[np.random.Generator, int], Scores]] = {
    "near: +gamma(0.7, 5)": lambda rng, n: rng.gamma(0.7, 5.0, n),  # a quarter of them within 1 SD: overlap the goods
    "usual: +gamma(2, 2)": lambda rng, n: rng.gamma(2.0, 2.0, n),  # 4 SD on average
    "far: +4": lambda rng, n: np.full(n, 4.0),
    "worst: +2": lambda rng, n: np.full(n, 2.0),  # no estimator can tell a fifth of these from a wider tail
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for n, n_reference in ((400, 300), (100, 60)):
        for family, quantiles in FAMILIES.items():
            print(f"\n{family}, {n} images, reference {n_reference}: no defects | bias at 5 / 10 / 20 % of defects")
            for name, estimate in ESTIMATORS.items():
                rng = np.random.default_rng(options.seed)

                def draw(size: int, rng: np.random.Generator = rng, quantiles: Scores = quantiles) -> Scores:
                    return np.interp(rng.standard_normal(size), GRID, quantiles)

                clean = np.array([estimate(draw(n_reference), draw(n)) for _ in range(options.repeats)])
                efficiency = (1.0 / n + 1.0 / n_reference) / clean.var()
                columns = [f"bias {clean.mean():+.3f} SD {clean.std():.3f} efficiency {efficiency:.2f}"]
                for label, defects in DEFECTS.items():
                    biases = []
                    for share in (0.05, 0.1, 0.2):
                        values = []
                        for _ in range(options.repeats // 4):
                            night = draw(n)
                            count = round(share * n)
                            night[:count] += defects(rng, count)
                            values.append(estimate(draw(n_reference), night))
                        biases.append(f"{np.mean(values):.2f}")
                    columns.append(f"{label.split(':')[0]} {' / '.join(biases)}")
                print(f"  {name:7s} " + " | ".join(columns))
            print("  changed spread, bulk only: ", end="")
            rng = np.random.default_rng(options.seed)
            for factor in (0.7, 1.5, 2.0):
                values = [
                    bulk(
                        np.interp(rng.standard_normal(n_reference), GRID, quantiles),
                        factor * np.interp(rng.standard_normal(n), GRID, quantiles),
                    )
                    for _ in range(options.repeats // 4)
                ]
                print(f"x{factor}: {np.mean(values):+.2f}  ", end="")
            print(flush=True)


if __name__ == "__main__":
    main()
