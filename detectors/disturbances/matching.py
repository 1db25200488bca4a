"""What happened to a station, told by its patches: which disturbances bring verified goods nearest to tonight's images.

A check names a disturbance from sixteen covariates, which see one change well and three at once badly. Patches see more: the
distance between two normal distributions that describe them (Fréchet's, of "GANs trained by a two time-scale update rule",
Heusel et al. 2017) is least where the goods were disturbed as the night was. So what the check named is where a search
begins: its strengths are tuned, what is missing is added, one disturbance at a time, and what does not help is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from detectors.backbones.tracing import PATCHES
from detectors.disturbances.disturbance import Disturbance, disturb
from detectors.disturbances.responses import probes
from detectors.patches.alignment import frechet_distance
from detectors.patches.whitening import PatchMoments, PatchProjection
from detectors.photographs.images import Pixels, to_uint8_rgb
from detectors.protocol import Progress, no_progress
from detectors.version import DetectorVersion

Changes = tuple[Disturbance, ...]

MOST_DISTURBANCES = 3
"""More at once are hardly told apart."""
DIMENSIONS = 128
"""Principal components of the night's patches in which distances are taken."""
N_MATCHED, N_SCREENED = 24, 8
"""Goods on which a candidate is tried, and on which all kinds are before the best are: the same ones for each, so that what
distinguishes these from others cancels out."""
N_TRIED = 3
"""Of the kinds that looked best on `N_SCREENED`."""
LEAST_GAIN = 0.06
"""Share of the distance that a disturbance must take away to be believed."""
FACTORS = (1.6, 1.25, 1.1)
TURNS_DEG = (30.0, 15.0, 7.0)
"""Steps in which strengths and directions are tuned."""
DIRECTED = ("shift", "gradient", "motion")
IN_PIXELS = ("shift", "defocus", "motion")
"""Kinds whose strength is in pixels of the photograph."""
MOST_PIXELS = 1_000_000
"""Larger photographs are shrunk for the search. What the sensor adds is hardly seen in them then, and is not searched for."""


def match(
    goods: Sequence[tuple[Pixels, Changes]],
    tonight: PatchMoments,
    *,
    starts: Sequence[Changes],
    version: DetectorVersion,
    seed: int,
    progress: Progress = no_progress,
) -> Changes:
    """The disturbances under which the goods' patches come nearest to tonight's; at most `MOST_DISTURBANCES`, perhaps none.

    The same arguments give the same disturbances.

    Args:
        goods: photographs of good parts, (h, w) or (h, w, 3), uint8 or uint16, each with what had happened to the station
            before tonight since it was taken; at most `N_MATCHED` of them are looked at.
        tonight: of the patches of the night's ordinary images.
        starts: where the search begins: what is nearest of these and of no disturbance at all.
        version: the champion, whose framing and backbone are used.
        seed: of what is new in every exposure.
        progress: told of each candidate.
    """
    search = _Search.of(goods[:N_MATCHED], tonight, version=version, seed=seed, progress=progress)
    current = min([(), *(search.reduced(each) for each in starts)], key=search.distance)
    current = search.tuned(current)
    while len(current) < MOST_DISTURBANCES:
        more = search.with_another(current)
        if not search.is_believed(more, current):
            break
        current = more
    return search.enlarged(search.without_the_idle(current))


@dataclass(slots=True)
class _Search:
    photographs: Sequence[tuple[Pixels, Changes]]
    target: PatchMoments
    projection: PatchProjection
    version: DetectorVersion
    seed: int
    shrunk: float
    """Side of the photographs looked at over that of the originals."""
    progress: Progress
    _known: dict[tuple[Changes, int], float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        goods: Sequence[tuple[Pixels, Changes]],
        tonight: PatchMoments,
        *,
        version: DetectorVersion,
        seed: int,
        progress: Progress,
    ) -> _Search:
        height, width = goods[0][0].shape[:2]
        shrunk = min(1.0, float(np.sqrt(MOST_PIXELS / (height * width))))
        projection = PatchProjection.of(tonight, dimensions=DIMENSIONS)
        return cls(
            photographs=[(_shrunk(pixels, shrunk), _scaled(changes, shrunk)) for pixels, changes in goods],
            target=tonight.projected(projection),
            projection=projection,
            version=version,
            seed=seed,
            shrunk=shrunk,
            progress=progress,
        )

    def reduced(self, changes: Changes) -> Changes:
        """As they are seen in the photographs looked at."""
        return _scaled(changes, self.shrunk)

    def enlarged(self, changes: Changes) -> Changes:
        """As they are seen in the originals."""
        return _scaled(changes, 1.0 / self.shrunk)

    def distance(self, changes: Changes, n: int = N_MATCHED) -> float:
        """Of the first ``n`` goods under ``changes`` from the night."""
        key = tuple(sorted(changes, key=lambda each: each.name)), n
        if key not in self._known:
            self.progress("what happened", len(self._known), 0)
            moments: PatchMoments | None = None
            for (found,) in self.version.runtime.stream(self._canvases(changes, n), (PATCHES,)):
                of_image = PatchMoments.of(self.projection.apply(found.reshape(-1, found.shape[-1])))
                moments = of_image if moments is None else moments + of_image
            assert moments is not None, "there are goods"
            self._known[key] = frechet_distance(moments, self.target)
        return self._known[key]

    def tuned(self, changes: Changes) -> Changes:
        """Strengths and directions changed by turns, in ever smaller steps, while that brings the goods nearer."""
        for factor, turn in zip(FACTORS, TURNS_DEG, strict=True):
            for index in range(len(changes)):
                options = [
                    (*changes[:index], other, *changes[index + 1 :])
                    for other in _neighbours(changes[index], factor, turn)
                ]
                changes = min([changes, *options], key=self.distance)
        return changes

    def with_another(self, changes: Changes) -> Changes:
        """With the disturbance of another kind that helps most, tuned together."""
        taken = {each.name for each in changes}
        options = [(*changes, probe) for probe in self._probes() if probe.name not in taken]
        options.sort(key=lambda each: self.distance(each, N_SCREENED))
        best = min(options[:N_TRIED], key=self.distance)
        return self.tuned(best)

    def is_believed(self, more: Changes, less: Changes) -> bool:
        return self.distance(more) <= (1.0 - LEAST_GAIN) * self.distance(less)

    def without_the_idle(self, changes: Changes) -> Changes:
        """Without what takes hardly anything away: a start may name what others explain."""
        for each in changes:
            rest = tuple(other for other in changes if other is not each)
            if not self.is_believed(changes, rest):
                changes = rest
        return changes

    def _probes(self) -> Iterator[Disturbance]:
        """One of each kind and direction, of middling strength."""
        pixels = [image for image, _ in self.photographs]
        side = float(np.sqrt(np.mean([image.shape[0] * image.shape[1] for image in pixels])))
        seen = set()
        for probe in probes(side_px=side, colour=any(image.ndim == 3 for image in pixels)):
            way = probe.name, probe.direction_deg, probe.strength > probe.kind.neutral
            if way not in seen and not (probe.kind.family == "sensor" and self.shrunk < 1.0):
                seen.add(way)
                yield probe

    def _canvases(self, changes: Changes, n: int) -> Iterator[NDArray[np.uint8]]:
        white_level = self.version.white_level
        for index, (pixels, earlier) in enumerate(self.photographs[:n]):
            rng = np.random.default_rng([self.seed, index])
            white = white_level if pixels.dtype == np.uint16 else 255
            seen = disturb(pixels, (*earlier, *changes), rng, white_level=white)
            yield self.version.framing.frame(to_uint8_rgb(seen, white_level=white_level))


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


def _scaled(changes: Changes, factor: float) -> Changes:
    return tuple(replace(each, strength=each.strength * factor) if each.name in IN_PIXELS else each for each in changes)


def _shrunk(pixels: Pixels, factor: float) -> Pixels:
    if factor >= 1.0:
        return pixels
    smaller = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.asarray(smaller, np.uint16) if pixels.dtype == np.uint16 else np.asarray(smaller, np.uint8)
