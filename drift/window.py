"""What a line's champion scored in one night."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

from drift.checks import finite_vector
from halfsigma import ScoreError


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One night's scores in capture order, known defects left out; it may be empty.

    `scores` has shape (n,), every covariate the same n and order; `image_hashes` has n entries or none.
    The order matters: neighbours on a belt resemble each other, and only the order shows it.

    >>> Window(night=date(2026, 11, 24), scores=[1.0, 2.5]).n
    2
    """

    night: date
    scores: NDArray[np.float64]
    covariates: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    image_hashes: tuple[str, ...] = ()
    n_unreadable: int = 0
    n_known_defects: int = 0

    def __post_init__(self) -> None:
        what = f"the scores of night {self.night}"
        scores = finite_vector(self.scores, what=what)
        covariates = {
            name: finite_vector(values, what=f"covariate {name!r} of night {self.night}", n=len(scores))
            for name, values in self.covariates.items()
        }
        hashes = tuple(self.image_hashes)
        if hashes and len(hashes) != len(scores):
            raise ScoreError(
                f"night {self.night} has {len(hashes)} image hashes for {len(scores)} scores, expected as many or none",
                hint="pass one hash per scored image, in the scores' order",
            )
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "covariates", covariates)
        object.__setattr__(self, "image_hashes", hashes)

    @property
    def n(self) -> int:
        """How many images were scored."""
        return len(self.scores)
