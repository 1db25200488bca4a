"""Every family in turn: fitted and judged, then retrained after a drift, then fitted on a dirty good set."""

from __future__ import annotations

import itertools
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detectors.artifact import save_version
from detectors.backbones.resolution import FramePlan
from detectors.backbones.runtime import FeatureRuntime
from detectors.disturbances.disturbance import Disturbance
from detectors.disturbances.specimens import Specimen, prepare_disturbed, prepared_score
from detectors.fit import GoodImages, PreparedImage, fit_version
from detectors.protocol import Detector, Progress, no_progress
from detectors.version import DetectorVersion
from flows.bakeoff.material import MOST_PIXELS, Material
from flows.bakeoff.result import Entry
from flows.bakeoff.station import measure_station
from halfsigma import HalfsigmaError
from registry.gates import auroc

FIT_SHARE, RETRAIN_SHARE = 0.6, 0.85
"""Of the time budget, by which all are fitted, and by which all are retrained; dirt has what is left."""
STATION_IMAGES = 20

_log = logging.getLogger(__name__)


class _OutOfTime(Exception):
    """Raised through a fit's progress: there is no other way into it."""


@dataclass(frozen=True, slots=True)
class Images:
    """The material as the detectors see it."""

    fit: GoodImages
    dirty: GoodImages
    fresh: GoodImages
    """After the drift."""
    held_out: tuple[PreparedImage, ...]
    deciding: tuple[PreparedImage, ...]
    synthetic: Mapping[str, tuple[PreparedImage, ...]]
    drifted_held_out: tuple[PreparedImage, ...]
    drifted_deciding: tuple[PreparedImage, ...]

    @classmethod
    def of(
        cls,
        material: Material,
        plan: FramePlan,
        *,
        drift: Disturbance,
        seed: int,
        progress: Progress = no_progress,
    ) -> Images:
        """Photograph everything, before and after the drift; each picture reduced to `MOST_PIXELS` where it has more."""
        n_painted = sum(map(len, material.synthetic.values()))
        n_before = len(material.fit) + len(material.dirt) + len(material.labelled) + n_painted
        total = n_before + len(material.fresh) + 2 * len(material.held_out) + len(material.deciding)
        done = itertools.count(1)

        def seen(specimens: Sequence[Specimen], disturbance: Disturbance | None = None) -> tuple[PreparedImage, ...]:
            prepared = []
            for image in prepare_disturbed(specimens, disturbance, version=plan, seed=seed, most_pixels=MOST_PIXELS):
                prepared.append(image)
                progress("preparing", next(done), total)
            return tuple(prepared)

        def goods(prepared: tuple[PreparedImage, ...]) -> GoodImages:
            return GoodImages(prepared, (), 0, plan.framing, plan.white_level)

        fit, synthetic = seen(material.fit), {name: seen(each) for name, each in material.synthetic.items()}
        everything_synthetic = tuple(each for group in synthetic.values() for each in group)
        return cls(
            fit=goods(fit),
            dirty=goods(seen(material.dirt) + fit[len(material.dirt) :]),
            fresh=goods(seen(material.fresh, drift)),
            held_out=seen(material.held_out),
            deciding=seen(material.labelled) if material.labelled else everything_synthetic,
            synthetic=synthetic,
            drifted_held_out=seen(material.held_out, drift),
            drifted_deciding=seen(material.deciding, drift),
        )


@dataclass(slots=True)
class Contest:
    """Families on one line's images within a time budget.

    Attributes:
        images: what they are tried on.
        station_images: photographs for latency and memory.
        runtime: the frozen backbone.
        fpr_budget: of the line.
        seconds: to spend on all of it.
        seed: of every fit.
    """

    images: Images
    station_images: Sequence[Path]
    runtime: FeatureRuntime
    fpr_budget: float
    seconds: float
    seed: int
    progress: Progress = no_progress
    failed: dict[str, str] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)

    def run(self, families: Mapping[str, type[Detector]]) -> tuple[Entry, ...]:
        """Measure each; the highest AUROC first. `failed` says why the others are missing."""
        entries: dict[str, Entry] = {}
        versions: dict[str, DetectorVersion] = {}
        for index, (name, family) in enumerate(families.items()):
            limit = self._share(FIT_SHARE, len(families) - index)
            try:
                versions[name], entries[name] = self._first(name, family, limit_s=limit)
            except _OutOfTime:
                self.failed[name] = f"its fit needs more than {limit / 60:.1f} minutes"
            except Exception as error:  # noqa: BLE001  # one family's fault must not end the contest for the others
                self.failed[name] = _told(error, name)
        for stage, share, measure in (("retrain", RETRAIN_SHARE, self._retrained), ("dirt", 1.0, self._soiled)):
            quickest_first = sorted(entries, key=lambda name: entries[name].fit_s)
            for index, name in enumerate(quickest_first):
                limit = self._share(share, len(entries) - index)
                entries[name] = self._tried(stage, measure, versions[name], entries[name], families[name], limit)
        return tuple(sorted(entries.values(), key=lambda each: -each.auroc))

    def _share(self, of_budget: float, n_left: int) -> float:
        """Seconds for one of ``n_left`` families until that part of the budget is spent."""
        return max(0.0, self._started + of_budget * self.seconds - time.monotonic()) / n_left

    def _tried(
        self,
        stage: str,
        measure: Callable[[DetectorVersion, Entry, type[Detector], float], Entry],
        version: DetectorVersion,
        entry: Entry,
        family: type[Detector],
        limit_s: float,
    ) -> Entry:
        try:
            return measure(version, entry, family, limit_s)
        except _OutOfTime:
            reason = f"needs more than the {limit_s / 60:.1f} minutes that were left for it"
        except Exception as error:  # noqa: BLE001  # as in `run`
            reason = _told(error, f"{entry.family}, {stage}")
        return replace(entry, missing={**entry.missing, stage: reason})

    def _first(self, name: str, family: type[Detector], *, limit_s: float) -> tuple[DetectorVersion, Entry]:
        images = self.images
        version, fit_s = self._fit(images.fit, family, limit_s=limit_s, what=name)
        good, defect = _scores(version, images.held_out), _scores(version, images.deciding)
        by_kind = {kind: auroc(good, _scores(version, painted)) for kind, painted in images.synthetic.items()}
        with tempfile.TemporaryDirectory(prefix="halfsigma-station-") as folder:
            save_version(version, Path(folder) / "version")
            cost = measure_station(Path(folder) / "version", self.station_images[:STATION_IMAGES])
        return version, Entry(
            family=name,
            good_scores=good,
            defect_scores=defect,
            auroc=auroc(good, defect),
            fpr=float((good > version.threshold.value).mean()),
            by_kind=by_kind,
            fit_s=fit_s,
            latency_ms=cost.latency_ms,
            latency_p95_ms=cost.latency_p95_ms,
            memory_mb=cost.memory_mb,
        )

    def _retrained(self, version: DetectorVersion, entry: Entry, family: type[Detector], limit_s: float) -> Entry:
        images = self.images
        good, defect = _scores(version, images.drifted_held_out), _scores(version, images.drifted_deciding)
        entry = replace(
            entry, auroc_drifted=auroc(good, defect), fpr_drifted=float((good > version.threshold.value).mean())
        )
        try:
            retrained, retrain_s = self._fit(
                images.fresh, family, limit_s=limit_s, what=f"{entry.family} retrained", warm_start=version
            )
        except _OutOfTime:
            reason = f"needs more than the {limit_s / 60:.1f} minutes that were left for it"
            return replace(entry, missing={**entry.missing, "retrain": reason})
        good, defect = _scores(retrained, images.drifted_held_out), _scores(retrained, images.drifted_deciding)
        return replace(
            entry,
            retrain_s=retrain_s,
            auroc_after_drift=auroc(good, defect),
            fpr_after_drift=float((good > retrained.threshold.value).mean()),
        )

    def _soiled(self, version: DetectorVersion, entry: Entry, family: type[Detector], limit_s: float) -> Entry:
        if entry.fit_s > limit_s:  # it would be ended anyway
            raise _OutOfTime
        images = self.images
        soiled, _ = self._fit(images.dirty, family, limit_s=limit_s, what=f"{entry.family} on dirt")
        return replace(entry, auroc_dirty=auroc(_scores(soiled, images.held_out), _scores(soiled, images.deciding)))

    def _fit(
        self,
        goods: GoodImages,
        family: type[Detector],
        *,
        limit_s: float,
        what: str,
        warm_start: DetectorVersion | None = None,
    ) -> tuple[DetectorVersion, float]:
        with _limited(self.progress, limit_s, what=what) as progress:
            started = time.perf_counter()
            version = fit_version(
                goods,
                family=family,
                runtime=self.runtime,
                fpr_budget=self.fpr_budget,
                seed=self.seed,
                progress=progress,
                warm_start=warm_start,
            )
            return version, time.perf_counter() - started


@contextmanager
def _limited(progress: Progress, limit_s: float, *, what: str) -> Iterator[Progress]:
    ends = time.monotonic() + limit_s

    def tell(step: str, done: int, total: int) -> None:
        if time.monotonic() > ends:
            raise _OutOfTime
        progress(f"{what}: {step}", done, total)

    yield tell


def _told(error: Exception, of: str) -> str:
    """Why something was not measured; what nobody foresaw (a full memory, torch) with its traceback on stderr."""
    if isinstance(error, HalfsigmaError):
        return error.message
    _log.error("the contest of %s failed", of, exc_info=error)
    return f"unexpected {type(error).__name__}: {error}"


def _scores(version: DetectorVersion, images: Sequence[PreparedImage]) -> NDArray[np.float64]:
    return np.array([prepared_score(version, image) for image in images])
