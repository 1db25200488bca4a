"""Which images a bake-off fits on, retrains on and judges by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detectors.calibration import MIN_REFERENCE
from detectors.defects.synthetic import GROUPS
from detectors.disturbances.specimens import Specimen
from detectors.protocol import Progress, no_progress
from flows.drill.material import LEAST_DEFECTS, draw
from halfsigma import TooFewImages

MOST_FIT, MOST_FRESH, MOST_HELD_OUT, MOST_DEFECTS = 300, 150, 100, 200
"""Images to fit, to retrain on after the drift, and to judge by: six families within half an hour of two processors."""
FIT_SHARE, FRESH_SHARE = 0.55, 0.25
LEAST_FRESH = 35
"""What a family that is trained needs, with its reference."""
LEAST_GOODS = 140
MOST_PIXELS = 1_500_000
"""Of a photograph that is prepared for the contest: ten times those of a canvas. A station is measured on whole ones."""
DIRTY_SHARE = 0.05
"""Of the good set that is defective where dirt is tried: what a night's curation lets through at worst."""


@dataclass(frozen=True, slots=True)
class Material:
    """Disjoint goods, and defects; each drawn at random and kept in the folder's order."""

    fit: tuple[Specimen, ...]
    fresh: tuple[Specimen, ...]
    """Seen after the drift alone."""
    held_out: tuple[Specimen, ...]
    labelled: tuple[Specimen, ...]
    """The user's defects to judge by, possibly none."""
    synthetic: Mapping[str, tuple[Specimen, ...]]
    """By group, one on each held-out part."""
    dirt: tuple[Specimen, ...]
    """Defects that take the place of as many goods to fit on."""
    n_unreadable: int
    n_left_out_defects: int
    """Known as defects, though they lay among the goods."""

    @property
    def deciding(self) -> tuple[Specimen, ...]:
        """The defects that the AUROC is of: the user's where there are any."""
        return self.labelled or tuple(each for group in self.synthetic.values() for each in group)


def choose_material(
    good_paths: Sequence[Path],
    defect_paths: Sequence[Path] | None,
    *,
    known_defects: Set[str],
    white_level: int,
    seed: int,
    progress: Progress = no_progress,
) -> Material:
    """Draw all images.

    Args:
        good_paths: of good parts.
        defect_paths: of defects that the user named, or None.
        known_defects: SHA-256 of what is left out of the goods.
        white_level: of the camera.
        seed: of the draw and of the synthetic defects.

    Raises:
        TooFewImages: too few goods, or too few defects in the named folder.
    """
    rng = np.random.default_rng(seed)
    goods = draw(good_paths, MOST_FIT + MOST_FRESH + MOST_HELD_OUT, known_defects, white_level, rng, progress)
    n = len(goods.found)
    if n < LEAST_GOODS:
        left_out = f" ({len(goods.left_out)} are left out as known defects)" if goods.left_out else ""
        raise TooFewImages(
            f"{n} distinct readable good images{left_out}, expected at least {LEAST_GOODS}: to fit, to retrain and to judge by",
            hint="collect more; until then use patchcore, which needs the fewest",
        )
    n_fit = min(MOST_FIT, round(FIT_SHARE * n))
    n_fresh = min(MOST_FRESH, max(LEAST_FRESH, round(FRESH_SHARE * n)))
    shuffled = [goods.found[k] for k in rng.permutation(n)]
    fit, fresh, held_out = (
        tuple(specimen for _, specimen in sorted(part, key=lambda each: each[0]))
        for part in (shuffled[:n_fit], shuffled[n_fit : n_fit + n_fresh], shuffled[n_fit + n_fresh :])
    )
    labelled, n_unreadable = _labelled(defect_paths, white_level, rng, progress)
    n_dirty = max(1, round(DIRTY_SHARE * n_fit))
    if len(labelled) >= 3 * n_dirty and len(labelled) - n_dirty >= LEAST_DEFECTS:
        soiling = set(rng.choice(len(labelled), n_dirty, replace=False).tolist())
        dirt = tuple(each for k, each in enumerate(labelled) if k in soiling)
        labelled = tuple(each for k, each in enumerate(labelled) if k not in soiling)
    else:
        dirt = tuple(_painted(each, tuple(kind for group in GROUPS.values() for kind in group), rng) for each in fit)
        dirt = dirt[:n_dirty]
    return Material(
        fit=fit,
        fresh=fresh,
        held_out=held_out,
        labelled=labelled,
        synthetic={name: tuple(_painted(each, kinds, rng) for each in held_out) for name, kinds in GROUPS.items()},
        dirt=dirt,
        n_unreadable=goods.n_unreadable + n_unreadable,
        n_left_out_defects=len(goods.left_out),
    )


def _labelled(
    paths: Sequence[Path] | None, white_level: int, rng: np.random.Generator, progress: Progress
) -> tuple[tuple[Specimen, ...], int]:
    if paths is None:
        return (), 0
    drawn = draw(paths, MOST_DEFECTS, frozenset(), white_level, rng, progress)
    if len(drawn.found) < max(LEAST_DEFECTS, MIN_REFERENCE):
        raise TooFewImages(
            f"{len(drawn.found)} distinct readable images of defects, expected at least {LEAST_DEFECTS}",
            hint="give more, or leave --defect out: synthetic defects are used then",
        )
    return tuple(specimen for _, specimen in sorted(drawn.found, key=lambda each: each[0])), drawn.n_unreadable


def _painted(part: Specimen, kinds: Sequence[str], rng: np.random.Generator) -> Specimen:
    return Specimen(part.path, part.sha256, int(rng.integers(2**31)), str(rng.choice(list(kinds))))
