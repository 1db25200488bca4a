"""Scores are finite numbers, or the work stops with a sentence that says which is not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfsigma import ScoreError


def finite_vector(values: Any, *, what: str, n: int | None = None) -> NDArray[np.float64]:
    """A read-only float64 vector of finite numbers, shape (n,); anything else is a ScoreError.

    >>> finite_vector([1, 2], what="scores")
    array([1., 2.])
    """
    try:
        vector = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ScoreError(f"{what} are not numbers: {error}", hint="expected one number per image") from error
    if vector.ndim != 1:
        raise ScoreError(f"{what} have shape {vector.shape}, expected (n,)", hint="one number per image")
    if n is not None and len(vector) != n:
        raise ScoreError(f"{what} are {len(vector)}, expected {n}", hint="one number per image, in the scores' order")
    bad = np.flatnonzero(~np.isfinite(vector))
    if bad.size:
        raise ScoreError(
            f"{what}: number {bad[0] + 1} of {len(vector)} is {vector[bad[0]]}, expected a finite number"
            + (f" ({bad.size} such numbers in all)" if bad.size > 1 else ""),
            hint="leave images out that could not be scored; a NaN is not a score",
        )
    vector.flags.writeable = False
    return vector
