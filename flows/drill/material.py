"""Which images a drill disturbs: goods that the champion never learned from, and defects."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from detectors.disturbances.specimens import Specimen
from detectors.photographs.images import Pixels, to_uint8_rgb
from detectors.photographs.loading import Unreadable, read_ahead
from detectors.protocol import Progress, no_progress
from halfsigma import ImageError, TooFewImages

MOST_NIGHT = 150
"""Images of a night. With those held out and the defects, some 70 rungs are 20,000 scores and forty retrains: ten
minutes of two processors."""
MOST_HELD_OUT = 75
"""Goods on which champion and retrained version are compared; neither learned from them."""
LEAST_NIGHT = 60
"""A retrain learns from 50 at least, after its curation."""
LEAST_HELD_OUT = 20
MOST_DEFECTS = 75
LEAST_DEFECTS = 20
"""AUROC on fewer is a guess."""

DefectSource = Literal["folder", "labelled", "synthetic"]


@dataclass(frozen=True, slots=True)
class Material:
    """The images of a drill; night and held-out goods are disjoint, each in the folder's order."""

    night: tuple[Specimen, ...]
    held_out: tuple[Specimen, ...]
    defects: tuple[Specimen, ...]
    defect_source: DefectSource
    n_looked_at: int
    """Files of the folder, drawn at random until there were enough."""
    n_left_out_fitted: int
    n_left_out_defects: int
    """Labelled as defects of the line."""
    n_unreadable: int
    side_px: float
    """Geometric mean side of the goods."""
    colour: bool


def choose_material(
    good_paths: Sequence[Path],
    *,
    fitted: Set[str],
    known_defects: Set[str],
    white_level: int,
    defect_folder_paths: Sequence[Path] | None,
    labelled_paths: Sequence[Path],
    seed: int,
    progress: Progress = no_progress,
) -> Material:
    """Draw the goods, two for the night to one held out, and the defects from the best source there is.

    Args:
        good_paths: of good parts.
        fitted: SHA-256 of the images that the champion learned from; they are left out.
        known_defects: SHA-256 of the line's labelled defects; left out as well.
        white_level: of the line.
        defect_folder_paths: of defects that the user named, or None.
        labelled_paths: files of the line's labelled defects.
        seed: of the draw and of synthetic defects.

    Raises:
        TooFewImages: fewer goods than a night and a held-out part need, or too few defects in the named folder.
    """
    rng = np.random.default_rng(seed)
    goods = draw(good_paths, MOST_NIGHT + MOST_HELD_OUT, fitted | known_defects, white_level, rng, progress)
    n = len(goods.found)
    if n < LEAST_NIGHT + LEAST_HELD_OUT:
        n_fitted, n_known = len(goods.left_out & fitted), len(goods.left_out & known_defects)
        raise TooFewImages(
            f"{n} usable good images of {goods.n_looked_at} files ({n_fitted} are left out because the champion was "
            f"fitted on them, {n_known} because they are labelled as defects, {goods.n_unreadable} unreadable), "
            f"expected at least {LEAST_NIGHT + LEAST_HELD_OUT}",
            hint="give a folder of good images of this line that were not used for fitting",
        )
    n_held_out = int(np.clip(round(n / 3), LEAST_HELD_OUT, MOST_HELD_OUT))
    held = set(rng.choice(n, n_held_out, replace=False).tolist())
    in_order = sorted(goods.found, key=lambda each: each[0])
    held_out = tuple(specimen for k, (_, specimen) in enumerate(in_order) if k in held)
    night = tuple(specimen for k, (_, specimen) in enumerate(in_order) if k not in held)
    defects, source = _defects(
        held_out, defect_folder_paths, labelled_paths, white_level=white_level, rng=rng, progress=progress
    )
    return Material(
        night=night,
        held_out=held_out,
        defects=defects,
        defect_source=source,
        n_looked_at=goods.n_looked_at,
        n_left_out_fitted=len(goods.left_out & fitted),
        n_left_out_defects=len(goods.left_out & known_defects),
        n_unreadable=goods.n_unreadable,
        side_px=goods.side_px,
        colour=goods.colour,
    )


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was found in a folder."""

    found: list[tuple[int, Specimen]]
    """With their places in the folder."""
    left_out: Set[str]
    n_looked_at: int
    n_unreadable: int
    side_px: float
    colour: bool


def draw(
    paths: Sequence[Path],
    n_most: int,
    left_out: Set[str],
    white_level: int,
    rng: np.random.Generator,
    progress: Progress,
) -> Drawn:
    """At most ``n_most`` distinct readable images in random order, without reading more of a large folder than needed."""
    order = rng.permutation(len(paths))
    found: dict[str, tuple[int, Specimen]] = {}
    met: set[str] = set()
    sides: list[float] = []
    n_looked_at = n_unreadable = 0
    colour = False
    for index, item in zip(order, read_ahead([paths[k] for k in order]), strict=True):
        progress("images", len(found), n_most)
        n_looked_at += 1
        if isinstance(item, Unreadable) or not _usable(item.pixels, white_level):
            n_unreadable += 1
        elif item.sha256 in left_out:
            met.add(item.sha256)
        elif item.sha256 not in found:
            found[item.sha256] = (int(index), Specimen(item.path, item.sha256))
            sides.append(math.sqrt(item.pixels.shape[0] * item.pixels.shape[1]))
            colour = colour or _is_coloured(item.pixels)
        if len(found) == n_most:
            break
    side_px = float(np.median(sides)) if sides else 0.0
    return Drawn(list(found.values()), met, n_looked_at, n_unreadable, side_px, colour)


def _defects(
    held_out: Sequence[Specimen],
    folder_paths: Sequence[Path] | None,
    labelled_paths: Sequence[Path],
    *,
    white_level: int,
    rng: np.random.Generator,
    progress: Progress,
) -> tuple[tuple[Specimen, ...], DefectSource]:
    if folder_paths is not None:
        drawn = draw(folder_paths, MOST_DEFECTS, set(), white_level, rng, progress)
        if len(drawn.found) < LEAST_DEFECTS:
            raise TooFewImages(
                f"{len(drawn.found)} distinct readable images of defects, expected at least {LEAST_DEFECTS}",
                hint="give more, or leave --defect out: synthetic defects are used then",
            )
        return _in_order(drawn), "folder"
    there = [path for path in labelled_paths if path.is_file()]
    if len(there) >= LEAST_DEFECTS:
        drawn = draw(there, MOST_DEFECTS, set(), white_level, rng, progress)
        if len(drawn.found) >= LEAST_DEFECTS:
            return _in_order(drawn), "labelled"
    seeds = rng.integers(2**31, size=len(held_out))
    painted = (Specimen(each.path, each.sha256, int(own_seed)) for each, own_seed in zip(held_out, seeds, strict=True))
    return tuple(painted), "synthetic"


def _in_order(drawn: Drawn) -> tuple[Specimen, ...]:
    return tuple(specimen for _, specimen in sorted(drawn.found, key=lambda each: each[0]))


def _usable(pixels: Pixels, white_level: int) -> bool:
    try:
        to_uint8_rgb(pixels, white_level=white_level)
    except ImageError:
        return False
    return True


def _is_coloured(pixels: Pixels) -> bool:
    return pixels.ndim == 3 and bool((pixels[..., 0] != pixels[..., 2]).any())
