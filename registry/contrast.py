"""The gate on how far each kind of labelled defect stands out from fresh goods: what a forgotten kind loses first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from detectors.calibration import MAD_TO_SD
from registry.gates import KIND_CONFIDENCE, Gate

MOST_LOSS_SD = 5.0
"""How far beyond it says no more. Of images of a kind that was not forgotten 0.6 in 1000 lose as much; where a quarter of a kind's
images were forgotten and the others are seen as before, 3 hides it (benchmarks/gates_on_tiles.py)."""
KIND_NOISE_SD = 0.2
"""Of a kind's mean loss between two equal fits, which more images of the kind do not make smaller: measured are 0.14 to
0.21 with 16 to 57 images (benchmarks/gates_on_tiles.py)."""
LEAST_NOISE = 0.01
"""Change of an image's contrast that two fits may differ by and still be called the same."""
LEAST_GOODS = 60
"""Fresh goods without which the noise of two fits is not known well enough to refuse anybody by it: by simulation an equal
challenger would be refused 6 times in a hundred with 30, 2.6 with 60, once with 150."""


def contrast_gate(
    *,
    champion_good: NDArray[np.float64],
    champion_defect: NDArray[np.float64],
    challenger_good: NDArray[np.float64],
    challenger_defect: NDArray[np.float64],
    kinds: Sequence[str],
) -> Gate | None:
    """No kind of labelled defect loses more contrast to fresh goods than equal fits differ by, however obvious it was.

    An image's contrast is its score over that of the median fresh good, by the same version. Whoever learned some defects
    of a kind sees the others with less contrast long before they sink among the goods, where `registry.gates.kinds_gate`
    looks. Changes of the log contrast are told in standard deviations of the fresh goods' own changes, so the noise of two
    fits is measured in each trial; by median and MAD, since some of the fresh goods may be the defects that nobody noticed.

    Fails for a kind whose mean loss (each image's counts for `MOST_LOSS_SD` at most, and for no more than its kind is allowed
    in all: no image decides alone) is above what comes by chance with 1 − `KIND_CONFIDENCE`, shared among the kinds: by the
    image's noise, 1, and the kind's, `KIND_NOISE_SD`.

    None where a score is not positive, since such scores have no ratios, and with fewer fresh goods than `LEAST_GOODS`.

    Args:
        champion_good, challenger_good: (n,), the same fresh goods, new to both.
        champion_defect, challenger_defect: (m,), the same labelled defects, new to both.
        kinds: of the m defects, ``""`` where nobody named one.
    """
    least = min(map(np.min, (champion_good, champion_defect, challenger_good, challenger_defect)))
    if champion_good.size < LEAST_GOODS or least <= 0.0:
        return None
    changes = np.log(challenger_good / champion_good)
    usual = np.median(changes)
    noise = max(MAD_TO_SD * float(np.median(np.abs(changes - usual))), LEAST_NOISE)
    losses = (usual - np.log(challenger_defect / champion_defect)) / noise
    names = np.array(kinds)
    z = float(norm.isf((1.0 - KIND_CONFIDENCE) / len(set(kinds))))
    n_of = {name: int((names == name).sum()) for name in sorted(set(kinds))}
    allowed = {name: z * float(np.hypot(1.0 / np.sqrt(n), KIND_NOISE_SD)) for name, n in n_of.items()}
    most = {name: min(MOST_LOSS_SD, n * allowed[name]) for name, n in n_of.items()}
    found = {name: float(np.minimum(losses[names == name], most[name]).mean()) for name in n_of}
    worst = max(found, key=lambda name: found[name] - allowed[name])
    lost = [name or "unnamed" for name in found if found[name] > allowed[name]]
    shown = f"; forgotten: {', '.join(lost)}" if lost else ""
    return Gate(
        "golden_contrast",
        not lost,
        found[worst],
        allowed[worst],
        f"of {len(found)} kinds of labelled defects {worst or 'unnamed'} fares worst: against fresh goods its contrast "
        f"changed by {-found[worst]:+.2f} SD of what goods change by ({n_of[worst]} images){shown}",
    )
