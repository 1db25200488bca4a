"""How many neighbours a patch is averaged with, from what the parts have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.backbone import BackboneSpec
from detectors.backbones.building import build_runtime
from detectors.backbones.runtime import FeatureRuntime

NEIGHBOURHOOD = 3
"""Side of the square of patches that are averaged (PatchCore's p), for parts that look alike."""
OF_TEXTURE = 1
"""None: the average blurs the contrast between a thin scratch and its surroundings, and nothing else tells them apart where
every place may look like any other. docs/decisions/features-and-aggregation.md has the figures."""
TEXTURE_BELOW = 0.3
"""Contrast of the parts' mean image, as a share of a part's own: below it they have no common picture. Magnetic tiles have
0.62, cuts of a texture 0.06: one over the root of their number."""


def runtime_for(small: Sequence[NDArray[np.float32]], *, usual: FeatureRuntime, spec: BackboneSpec) -> FeatureRuntime:
    """The runtime for a line whose parts look like these small gray pictures, all of one shape.

    Args:
        small: (h, w) float32 each.
        usual: made of ``spec`` with `NEIGHBOURHOOD`, as it is needed before any part was looked at.
        spec: as for `build_runtime`.
    """
    return build_runtime(spec, neighbourhood=OF_TEXTURE) if is_texture(small) else usual


def is_texture(small: Sequence[NDArray[np.float32]]) -> bool:
    """Whether small gray pictures of the parts average out to next to nothing.

    >>> stripes = np.tile(np.array([0.0, 1.0], np.float32), (8, 4))
    >>> is_texture([stripes] * 4), is_texture([stripes, 1 - stripes])
    (False, True)
    """
    total = np.zeros(small[0].shape)
    for picture in small:
        total += picture
    own = float(np.mean([picture.std() for picture in small]))
    return float(total.std()) / len(small) < TEXTURE_BELOW * own
