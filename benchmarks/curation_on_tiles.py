"""What a bank is worth that learned from a drifted night with unlabelled defects in it, curated in several ways.

    python -m benchmarks.curation_on_tiles --seeds 1 --cache /tmp/curation

For each seed: a champion of 300 goods; for each drift a night of 300 other goods with 0, 2, 5, 10 and 20 % of real defects
mixed in, all disturbed alike; AUROC on held-out goods and held-out defects under the same drift. Side by side: the
champion, the transferred bank alone, clean (the night without its defects), dirty (all of it), the curation before drift
transfer, the curation, and the curation after a person's verdict on the twenty most suspicious images.

Features are computed once a seed and drift, and projected once, by the components of the night's goods and the verified
core; banks are made of them as PatchCore makes them. What the disturbance was is estimated once a drift, on the night with
10 % of defects, as the nightly check does.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.closed_loop_on_tiles import TILES, prepared
from detectors.backbone import BackboneSpec
from detectors.disturbance import Disturbance, describe, disturb
from detectors.fit import fit_version
from detectors.framing import Framing
from detectors.images import list_images, read_photograph, to_uint8_rgb
from detectors.patchcore import NEIGHBOURHOOD, PatchCore
from detectors.runtime import build_runtime
from detectors.version import DetectorVersion
from detectors.whitening import PatchProjection
from drift.reference import Reference
from drift.responses import Response
from drift.verdict import Verdict, judge_lines
from drift.window import Window
from registry.transfer import named_disturbances

Image = NDArray[np.uint8]
N_FIT, N_CORE, N_NIGHT, N_HELD_OUT = 300, 200, 300, 200
SHARES = (0.0, 0.02, 0.05, 0.1, 0.2)
ESTIMATED_AT = 0.1
MOST_DEFECTS = round(N_NIGHT * SHARES[-1] / (1.0 - SHARES[-1]))
DRIFTS: dict[str, tuple[Disturbance, ...]] = {
    "blur 1.5 px": (Disturbance("defocus", 1.5),),
    "slip 12 px": (Disturbance("shift", 12.0, direction_deg=30.0),),
    "gain 1.4": (Disturbance("gain", 1.4),),
    "rotation 3°": (Disturbance("rotation", 3.0),),
    "gamma 1.6": (Disturbance("gamma", 1.6),),
    "mixture": (Disturbance("defocus", 1.0), Disturbance("gain", 1.3), Disturbance("shift", 6.0, direction_deg=200.0)),
}
TRANSFERRED: dict[str, tuple[Disturbance, ...]] = {
    "gradient 0.4": (Disturbance("gradient", 0.4, direction_deg=45.0),),
    "motion 6 px": (Disturbance("motion", 6.0, direction_deg=20.0),),
    "noise 3 %": (Disturbance("noise", 0.03),),
    "dead pixels 0.4 %": (Disturbance("dead_pixels", 0.004, seed=5),),
    "jpeg 30": (Disturbance("jpeg", 30.0),),
    "scale 1.06": (Disturbance("scale", 1.06),),
}
"""The other kinds that attribution names: for the table of drift transfer alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Projected patch features of some images, image by image."""

    values: NDArray[np.float32]
    lengths: NDArray[np.int64]

    def of(self, chosen: Iterable[int]) -> NDArray[np.float32]:
        """The patches of the chosen images, one below the other."""
        ends = np.cumsum(self.lengths)
        return np.concatenate([self.values[ends[i] - self.lengths[i] : ends[i]] for i in chosen])


@dataclass(frozen=True, slots=True, eq=False)
class Night:
    """One drift of one seed: what was photographed, and what the champion says of it."""

    patches: dict[str, Patches]
    """``core``, ``good``, ``defect`` (what may be mixed in), ``held_good``, ``held_defect``."""
    scores: dict[str, NDArray[np.float64]]
    """By the champion: ``good``, ``defect``, ``held_good``, ``held_defect``."""
    reference_scores: NDArray[np.float64]
    threshold: float
    defect_shares: NDArray[np.float64]
    """As the check estimates them, one for each of `SHARES`."""
    kinds: NDArray[np.str_]
    """Of the held-out defects."""
    named: str
    seconds: float


class Station:
    """The images of one seed, and the champion that was fitted on some of them."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        good_paths, defect_paths = list_images(TILES / "good"), list_images(TILES / "defect")
        goods = [_read(good_paths[i]) for i in rng.permutation(len(good_paths))]
        shuffled = [defect_paths[i] for i in rng.permutation(len(defect_paths))]
        self.seed = seed
        self.fitted, rest = goods[:N_FIT], goods[N_FIT:]
        self.night, self.held_good = rest[:N_NIGHT], rest[N_NIGHT : N_NIGHT + N_HELD_OUT]
        self.mixed_in = [_read(path) for path in shuffled[:MOST_DEFECTS]]
        self.held_defect = [_read(path) for path in shuffled[MOST_DEFECTS:]]
        self.kinds = np.array([path.parent.name for path in shuffled[MOST_DEFECTS:]])
        runtime = build_runtime(BackboneSpec(), neighbourhood=NEIGHBOURHOOD)
        material = prepared(self.fitted, Framing(256))
        version = fit_version(material, family=PatchCore, runtime=runtime, fpr_budget=0.01, seed=seed)
        self.champion = _with_responses(version, self.fitted, seed)

    def night_of(self, changes: Sequence[Disturbance]) -> Night:
        """The station after `changes`: everything photographed and looked at once."""
        started = time.perf_counter()
        rng = np.random.default_rng(self.seed)
        groups = {
            "good": self.night,
            "defect": self.mixed_in,
            "held_good": self.held_good,
            "held_defect": self.held_defect,
        }
        taken = {name: [disturb(image, changes, rng) for image in images] for name, images in groups.items()}
        tables = {name: _scored(self.champion, images) for name, images in taken.items()}
        shares = [self._verdict(tables, share).defect_share for share in SHARES]
        named = named_disturbances(self._verdict(tables, ESTIMATED_AT).to_dict())
        taken["core"] = [disturb(image, named, rng) for image in self.fitted[:N_CORE]]
        raw = {name: _features(self.champion, images) for name, images in taken.items()}
        projection = PatchProjection.fit(
            np.concatenate([*(each for each in raw["good"]), *(each for each in raw["core"])]), dimensions=128
        )
        return Night(
            patches={
                name: Patches(projection.apply(np.concatenate(rows)), np.array([len(row) for row in rows]))
                for name, rows in raw.items()
            },
            scores={name: table["score"] for name, table in tables.items()},
            reference_scores=self.champion.reference_scores,
            threshold=self.champion.threshold.value,
            defect_shares=np.array(shares),
            kinds=self.kinds,
            named=describe(named) if named else "none of these",
            seconds=time.perf_counter() - started,
        )

    def _verdict(self, tables: dict[str, dict[str, NDArray[np.float64]]], share: float) -> Verdict:
        n = n_defects(share)
        mixed = {name: np.r_[values, tables["defect"][name][:n]] for name, values in tables["good"].items()}
        order = np.random.default_rng(self.seed).permutation(N_NIGHT + n)
        window = Window(
            night=date(2026, 11, 24),
            scores=mixed["score"][order],
            covariates={name: values[order] for name, values in mixed.items() if name != "score"},
        )
        reference = Reference(
            self.champion.reference_scores,
            self.champion.reference_covariates,
            responses=tuple(Response.from_json(each.to_json()) for each in self.champion.responses),
        )
        return judge_lines([(reference, [window])])[0]


def n_defects(share: float) -> int:
    """So many of them beside `N_NIGHT` goods are that share of the night."""
    return round(N_NIGHT * share / (1.0 - share))


def _read(path: Path) -> Image:
    return to_uint8_rgb(read_photograph(path).pixels, white_level=255)


def _with_responses(version: DetectorVersion, images: Sequence[Image], seed: int) -> DetectorVersion:
    from dataclasses import replace

    from detectors.responses import MOST_IMAGES, measure_responses

    return replace(version, responses=measure_responses(version, images[:MOST_IMAGES], seed=seed))


def _scored(version: DetectorVersion, images: Sequence[Image]) -> dict[str, NDArray[np.float64]]:
    rows = [version.score(image) for image in images]
    columns = {name: np.array([row.covariates[name] for row in rows]) for name in rows[0].covariates}
    return {"score": np.array([row.score for row in rows])} | columns


def _features(version: DetectorVersion, images: Sequence[Image]) -> list[NDArray[np.float32]]:
    found = (version.runtime.features(version.framing.frame(image)) for image in images)
    return [each.reshape(-1, each.shape[-1]) for each in found]
