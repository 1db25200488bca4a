"""Photographs as a changed station would have taken them, disturbed and prepared ahead of their use."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import cv2
import numpy as np

from detectors.defects.synthetic import random_defect
from detectors.disturbances.disturbance import Disturbance, disturb
from detectors.fit import PreparedImage
from detectors.photographs.canvases import InMemory
from detectors.photographs.covariates import COVARIATE_NAMES, measure_appearance
from detectors.photographs.framing import Framing
from detectors.photographs.images import MAX_PIXELS, Pixels, read_photograph, to_uint8_rgb
from detectors.photographs.loading import READ_AHEAD
from detectors.photographs.position import measure_position, small_gray
from detectors.version import DetectorVersion
from halfsigma import ImageError


@dataclass(frozen=True, slots=True)
class Specimen:
    """A file of a known part; with a `defect_seed` the part gets a synthetic defect before it is photographed."""

    path: Path
    sha256: str
    defect_seed: int | None = None
    defect_kind: str | None = None
    """One of `detectors.defects.synthetic.KINDS`; a random one without it."""


class Station(Protocol):
    """What must be known of a line to see as it sees: a version, or the plan of one."""

    @property
    def framing(self) -> Framing: ...
    @property
    def white_level(self) -> int: ...


def photograph(
    specimen: Specimen,
    disturbance: Disturbance | None,
    *,
    white_level: int,
    rng: np.random.Generator,
    most_pixels: int = MAX_PIXELS,
) -> Pixels:
    """The specimen as the changed station sees it, (h, w) or (h, w, 3), uint8 or uint16; as it is with None.

    A picture of more than ``most_pixels`` is reduced to as many by area averaging before anything is done to it: painting
    and defocusing 12 megapixels takes seconds, and a canvas holds a hundredth of them. A disturbance in pixels is then one
    of the reduced picture.

    Raises:
        ImageError: the file is gone, unreadable or no longer the one that was chosen.
    """
    found = read_photograph(specimen.path)
    if found.sha256 != specimen.sha256:
        raise ImageError(
            f"{specimen.path} was replaced while it was in use", hint="run it again on a folder that is left alone"
        )
    pixels = _reduced(found.pixels, most_pixels)
    if specimen.defect_seed is not None:
        rng_of_defect = np.random.default_rng(specimen.defect_seed)
        pixels = random_defect(pixels, rng_of_defect, kind=specimen.defect_kind, white_level=white_level).image
    if disturbance is None:
        return pixels
    white = white_level if pixels.dtype == np.uint16 else 255
    return disturb(pixels, [disturbance], rng, white_level=white)


def prepare_disturbed(
    specimens: Sequence[Specimen],
    disturbance: Disturbance | None,
    *,
    version: Station,
    seed: int,
    most_pixels: int = MAX_PIXELS,
) -> Iterator[PreparedImage]:
    """Each specimen, disturbed and reduced to what scoring and fitting need, in order; two threads work ahead.

    What is new in every exposure (noise, flicker) is drawn from `seed` and the specimen's place in the sequence. Pictures of
    more than ``most_pixels`` are reduced as `photograph` does it.

    Raises:
        ImageError: as `photograph`, or `version` cannot take such images.
    """

    def one(index: int, specimen: Specimen) -> PreparedImage:
        rng = np.random.default_rng([seed, index])
        pixels = photograph(specimen, disturbance, white_level=version.white_level, rng=rng, most_pixels=most_pixels)
        image = to_uint8_rgb(pixels, white_level=version.white_level)
        return PreparedImage(
            path=specimen.path,
            sha256=specimen.sha256,
            stored=InMemory.of(version.framing.frame(image)),
            small=small_gray(image),
            appearance=measure_appearance(image, original_size=(pixels.shape[0], pixels.shape[1])),
        )

    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="disturb") as pool:
        waiting: deque[Future[PreparedImage]] = deque()
        try:
            for index, specimen in enumerate(specimens):
                waiting.append(pool.submit(one, index, specimen))
                if len(waiting) >= READ_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _reduced(pixels: Pixels, most_pixels: int) -> Pixels:
    height, width = pixels.shape[:2]
    scale = math.sqrt(most_pixels / (height * width))
    if scale >= 1.0:
        return pixels
    size = (round(width * scale), round(height * scale))
    return cast("Pixels", cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def prepared_score(version: DetectorVersion, image: PreparedImage) -> float:
    """The score that `version` gives the photograph that `image` was prepared from."""
    return version.model.score(image.canvas).score


def prepared_covariates(version: DetectorVersion, image: PreparedImage) -> Mapping[str, float]:
    """Its covariates, as `DetectorVersion.score` measures them."""
    measured = image.appearance | measure_position(image.small, version.template)
    return {name: measured[name] for name in COVARIATE_NAMES}
