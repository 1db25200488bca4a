"""What happened to a station, told by its patches: which disturbances bring verified goods nearest to tonight's images.

A check names a disturbance from sixteen covariates, which see one change well and three at once badly. Patches see more: the
distance between two normal distributions that describe them (Fréchet's, which Heusel et al. use in "GANs trained by a two
time-scale update rule", 2017) is least where the goods were disturbed as the night was. So what the check named is where a
search begins: its strengths are tuned, what is missing is added, one disturbance at a time, and what does not help is dropped.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import cv2
import numpy as np
from numpy.typing import NDArray

from detectors.backbones.tracing import PATCHES
from detectors.disturbances.disturbance import Changes, Disturbance, disturb
from detectors.disturbances.probing import probes
from detectors.fit import PreparedImage
from detectors.patches.alignment import FrechetDistance
from detectors.patches.whitening import PatchMoments, PatchProjection
from detectors.photographs.images import Photograph, Pixels, to_uint8_rgb
from detectors.photographs.loading import read_ahead
from detectors.protocol import Progress, no_progress
from detectors.version import DetectorVersion

MOST_DISTURBANCES = 3
"""More at once are hardly told apart."""
DIMENSIONS = 128
"""Principal components of the night's and the goods' patches, in which distances are taken."""
N_TRIED_ON = 24
"""Goods that each candidate is tried on: always the same, so that what sets them apart from others cancels out."""
N_DRAWS = 100
"""Of these goods; the draw is taken whose patches are nearest to those of all. On the tiles 24 chosen so found what all 140 did."""
LEAST_GAIN = 0.04
"""Share of the distance that a disturbance must take away to be believed."""
STEPS = ((1.6, 30.0), (1.25, 15.0), (1.1, 7.0))
"""By what factor strengths are tuned, and by how many degrees directions, coarse first."""
DIRECTED = ("shift", "gradient", "motion")
MOST_PIXELS = 1_000_000
"""Larger photographs are shrunk for the search, to no less than twice the canvas's side. What the sensor adds is hardly seen in
them then, and is not searched for."""
_USUAL_TRIES = 80
"""What the progress is told of as the whole."""


def match(
    goods: Sequence[PreparedImage],
    earlier: Mapping[str, Changes],
    tonight: PatchMoments,
    *,
    starts: Sequence[Changes],
    version: DetectorVersion,
    seed: int,
    progress: Progress = no_progress,
) -> Changes:
    """The disturbances under which the goods' patches come nearest to tonight's: at most `MOST_DISTURBANCES`, perhaps none.

    The same arguments give the same disturbances.

    Args:
        goods: as the station took them before tonight; all of them, since those of the night that the champion finds ordinary
            are those that the change has hardly touched.
        earlier: SHA-256 → what has happened to the station between that photograph and tonight.
        tonight: of the patches of the night's images, all of them for the same reason.
        starts: where the search begins: what is nearest of these and of no disturbance at all.
        version: the champion, whose framing and backbone are used.
        seed: of the draws, and of what is new in every exposure.
        progress: told of each candidate.
    """
    of_goods = [PatchMoments.of(each) for each in _patches_of_each((image.canvas for image in goods), version)]
    projection = PatchProjection.of(reduce(operator.add, of_goods, tonight), dimensions=DIMENSIONS)
    chosen = _representative([each.projected(projection) for each in of_goods], seed=seed)
    read = zip(chosen, read_ahead([goods[i].path for i in chosen]), strict=True)
    photographs = [item for i, item in read if isinstance(item, Photograph) and item.sha256 == goods[i].sha256]
    if not photographs:
        return ()
    shrunk = _shrunk_side(photographs[0].pixels, goods[0].canvas)
    search = _Search(
        [_Good.of(photograph, earlier.get(photograph.sha256, ()), shrunk, seed) for photograph in photographs],
        FrechetDistance(tonight.projected(projection)),
        projection,
        version,
        _probes([photograph.pixels for photograph in photographs], shrunk),
        progress,
    )
    return _in_pixels_of(search.found([_in_pixels_of(start, shrunk) for start in starts]), 1.0 / shrunk)


@dataclass(frozen=True, slots=True, eq=False)
class _Good:
    """A photograph that candidates are tried on."""

    pixels: Pixels
    earlier: Changes
    seed: tuple[int, int]

    @classmethod
    def of(cls, photograph: Photograph, earlier: Changes, shrunk: float, seed: int) -> _Good:
        pixels = _resized(photograph.pixels, shrunk)
        return cls(pixels, _in_pixels_of(earlier, shrunk), (seed, int(photograph.sha256[:12], 16)))

    def canvas(self, changes: Changes, version: DetectorVersion) -> NDArray[np.uint8]:
        white = version.white_level if self.pixels.dtype == np.uint16 else 255
        rng = np.random.default_rng(self.seed)
        seen = disturb(self.pixels, (*self.earlier, *changes), rng, white_level=white)
        return version.framing.frame(to_uint8_rgb(seen, white_level=version.white_level))


@dataclass(slots=True)
class _Search:
    goods: Sequence[_Good]
    to_tonight: FrechetDistance
    projection: PatchProjection
    version: DetectorVersion
    probes: Sequence[Disturbance]
    progress: Progress
    _known: dict[Changes, float] = field(default_factory=dict)

    def found(self, starts: Sequence[Changes]) -> Changes:
        current = self.tuned(min([(), *starts], key=self.distance))
        while len(current) < MOST_DISTURBANCES:
            more = self.with_another(current)
            if not self.is_believed(more, current):
                break
            current = more
        return self.without_the_idle(current)

    def distance(self, changes: Changes) -> float:
        """Of the goods under ``changes`` from the night."""
        key = tuple(sorted(changes, key=lambda each: each.name))
        if key not in self._known:
            self.progress("what happened", min(len(self._known), _USUAL_TRIES), _USUAL_TRIES)
            canvases = (good.canvas(changes, self.version) for good in self.goods)
            patches = np.concatenate(list(_patches_of_each(canvases, self.version)))
            self._known[key] = self.to_tonight(PatchMoments.of(self.projection.apply(patches)))
        return self._known[key]

    def tuned(self, changes: Changes) -> Changes:
        """Strengths and directions changed by turns, in ever smaller steps, while that brings the goods nearer."""
        for factor, turn_deg in STEPS:
            for index in range(len(changes)):
                options = [
                    (*changes[:index], other, *changes[index + 1 :])
                    for other in _neighbours(changes[index], factor, turn_deg)
                ]
                changes = min([changes, *options], key=self.distance)
        return changes

    def with_another(self, changes: Changes) -> Changes:
        """With the disturbance of another kind that helps most, tuned together."""
        taken = {each.name for each in changes}
        options = [(*changes, probe) for probe in self.probes if probe.name not in taken]
        return self.tuned(min(options, key=self.distance))

    def is_believed(self, more: Changes, less: Changes) -> bool:
        return self.distance(more) <= (1.0 - LEAST_GAIN) * self.distance(less)

    def without_the_idle(self, changes: Changes) -> Changes:
        """Without what takes hardly anything away once the rest is tuned to do without it: a stronger blur explains a smear."""
        for each in changes:
            rest = self.tuned(tuple(other for other in changes if other.name != each.name))
            if not self.is_believed(changes, rest):
                changes = rest
        return changes


def _patches_of_each(canvases: Iterable[NDArray[np.uint8]], version: DetectorVersion) -> Iterator[NDArray[np.float32]]:
    for (found,) in version.runtime.stream(canvases, (PATCHES,)):
        yield found.reshape(-1, found.shape[-1])


def _representative(of_goods: Sequence[PatchMoments], *, seed: int) -> list[int]:
    """Places of at most `N_TRIED_ON` goods whose patches together are distributed as those of all are."""
    if len(of_goods) <= N_TRIED_ON:
        return list(range(len(of_goods)))
    to_whole = FrechetDistance(reduce(operator.add, of_goods))
    rng = np.random.default_rng(seed)
    draws = [np.sort(rng.permutation(len(of_goods))[:N_TRIED_ON]).tolist() for _ in range(N_DRAWS)]

    def unlike(draw: list[int]) -> float:
        return to_whole(reduce(operator.add, [of_goods[i] for i in draw]))

    return min(draws, key=unlike)


def _probes(photographs: Sequence[Pixels], shrunk: float) -> list[Disturbance]:
    """One of each kind and direction, of middling strength."""
    side_px = shrunk * float(np.sqrt(np.mean([image.shape[0] * image.shape[1] for image in photographs])))
    found: dict[tuple[object, ...], Disturbance] = {}
    for probe in probes(side_px=side_px, colour=any(image.ndim == 3 for image in photographs)):
        if shrunk == 1.0 or probe.kind.family != "sensor":
            found.setdefault((probe.name, probe.direction_deg, probe.strength > probe.kind.neutral), probe)
    return list(found.values())


def _neighbours(disturbance: Disturbance, factor: float, turn_deg: float) -> list[Disturbance]:
    kind = disturbance.kind
    step = disturbance.strength - kind.neutral
    found = [
        replace(disturbance, strength=float(np.clip(kind.neutral + step * by, kind.low, kind.high)))
        for by in (factor, 1.0 / factor)
    ]
    if disturbance.name in DIRECTED:
        found += [
            replace(disturbance, direction_deg=(disturbance.direction_deg + by) % 360.0) for by in (turn_deg, -turn_deg)
        ]
    return found


def _shrunk_side(pixels: Pixels, canvas: NDArray[np.uint8]) -> float:
    """Side of the photographs that are looked at over that of the originals."""
    enough = max(MOST_PIXELS, 4 * canvas.shape[0] * canvas.shape[1])
    return min(1.0, float(np.sqrt(enough / (pixels.shape[0] * pixels.shape[1]))))


def _in_pixels_of(changes: Changes, shrunk: float) -> Changes:
    """The same disturbances in photographs of ``shrunk`` times the side."""
    return tuple(
        replace(each, strength=each.strength * shrunk) if each.kind.unit.endswith("px") else each for each in changes
    )


def _resized(pixels: Pixels, shrunk: float) -> Pixels:
    if shrunk == 1.0:
        return pixels
    smaller = cv2.resize(pixels, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA)
    return np.asarray(smaller, np.uint16) if pixels.dtype == np.uint16 else np.asarray(smaller, np.uint8)
