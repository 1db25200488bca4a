"""The threshold of a trained family's retrain when defects lie unnoticed in the night, by simulation.

    python -m benchmarks.doubtful_reference

A champion of 300 goods, so 99 known scores; a night of 300 images with some defects, all scores of one distribution and
defects 3 standard deviations above. The most suspicious are held back (a judge that errs by half a standard deviation), 99 of the
others are held out. Three thresholds: all that was held back in the reference and nothing lowered (as it was until
2026-11-27); the same share of it as of the others; and, as it is, lowered to where known goods lie besides. False positives are of new
goods, recall of new defects, means of all nights.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from detectors.calibration import Doubt, conformal_threshold, n_held_out, threshold_in_doubt
from registry.curation import HELD_BACK_SHARE

N_NIGHT, N_NIGHTS, N_KNOWN = 300, 3000, 99
BUDGET, DEFECT_SD, JUDGE_ERROR_SD, ESTIMATE_ERROR = 0.01, 3.0, 0.5, 4.0
Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
SCORES: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "t, 6 degrees": lambda rng, n: rng.standard_t(6, size=n),
    "log-normal, σ 0.5": lambda rng, n: np.exp(0.5 * rng.normal(size=n)),
}


def thresholds(draw: Draw, share: float, sd: float, rng: np.random.Generator) -> tuple[float, float, float]:
    """Of one night, by the three ways."""
    n_bad = rng.binomial(N_NIGHT, share)
    scores = np.concatenate([draw(rng, N_NIGHT - n_bad), draw(rng, n_bad) + DEFECT_SD * sd])
    order = np.argsort(-(scores + JUDGE_ERROR_SD * sd * rng.normal(size=N_NIGHT)))
    n_back = math.ceil((HELD_BACK_SHARE + share) * N_NIGHT)
    held_back, others = rng.permutation(scores[order[:n_back]]), rng.permutation(scores[order[n_back:]])
    held_out = others[: n_held_out(len(others), n_new=len(others))]
    drawn = len(held_out) / len(others)
    some = np.concatenate([held_out, held_back[: round(drawn * n_back)]])
    expected = max(0, round(share * N_NIGHT + rng.normal(0.0, ESTIMATE_ERROR)))
    doubt = Doubt(draw(rng, N_KNOWN), n_defects=expected).of_share(drawn)
    return (
        conformal_threshold(np.concatenate([held_out, held_back]), fpr_budget=BUDGET).value,
        conformal_threshold(some, fpr_budget=BUDGET).value,
        threshold_in_doubt(some, doubt, fpr_budget=BUDGET).value,
    )


def main() -> None:
    print("| scores | defects | all that was held back: false positives, recall | its share | lowered besides |")
    print("|---|---|---|---|---|")
    for name, draw in SCORES.items():
        rng = np.random.default_rng(0)
        everything = np.sort(draw(rng, 400_000))
        sd = float(everything.std())
        for share in (0.0, 0.03, 0.05, 0.1):
            found = np.array([thresholds(draw, share, sd, rng) for _ in range(N_NIGHTS)])
            above = 1.0 - np.searchsorted(everything, [found, found - DEFECT_SD * sd], side="right") / everything.size
            cells = [f"{fpr:.2%}, {recall:.0%}" for fpr, recall in above.mean(axis=1).T]
            print(f"| {name} | {share:.0%} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
