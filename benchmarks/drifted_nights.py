"""Nights of a part after a drift: what was photographed, the patches of it, and what the champion and the check say of it.

For each seed a champion of 300 goods; for each drift a night of 300 other goods, defects that may be mixed in, and goods and
defects that are held out, all disturbed alike. Features are computed once a seed and drift, and projected once, by the
components of the night's goods and of the verified core.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from benchmarks.closed_loop_on_tiles import Image, prepared
from benchmarks.labelled_parts import LabelledPart, bricks_alike, picked, tiles
from detectors.backbones.backbone import BackboneSpec
from detectors.backbones.building import build_runtime
from detectors.backbones.neighbourhood import NEIGHBOURHOOD, runtime_for
from detectors.disturbances.disturbance import Changes, Disturbance, describe, disturb
from detectors.disturbances.matching import match
from detectors.disturbances.probing import MOST_IMAGES, measure_responses
from detectors.disturbances.transfer import moments_of
from detectors.families.patchcore import PatchCore
from detectors.fit import fit_version, prepare
from detectors.patches.whitening import PatchProjection
from detectors.photographs.framing import Framing
from detectors.photographs.images import list_images
from detectors.version import DetectorVersion
from drift.reference import Reference
from drift.responses import Response
from drift.verdict import Verdict, judge_lines
from drift.window import Window
from registry.transfer import named_disturbances

N_FIT, N_CORE, N_NIGHT, N_HELD_OUT = 300, 300, 300, 200
FPR_BUDGET = 0.01
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
GROUPS = ("core", "good", "defect", "held_good", "held_defect")
TRANSFERRED: dict[str, tuple[Disturbance, ...]] = {
    "gradient 0.4": (Disturbance("gradient", 0.4, direction_deg=45.0),),
    "motion 6 px": (Disturbance("motion", 6.0, direction_deg=20.0),),
    "noise 3 %": (Disturbance("noise", 0.03),),
    "dead pixels 0.4 %": (Disturbance("dead_pixels", 0.004, seed=5),),
    "jpeg 30": (Disturbance("jpeg", 30.0),),
    "scale 1.06": (Disturbance("scale", 1.06),),
    "scale 0.94": (Disturbance("scale", 0.94),),
    "gain 0.6": (Disturbance("gain", 0.6),),
    "gamma 0.6": (Disturbance("gamma", 0.6),),
}
"""The other kinds, and the other directions, that attribution names: for the table of drift transfer alone."""
COLOURED: dict[str, tuple[Disturbance, ...]] = {
    "warmth 0.2": (Disturbance("warmth", 0.2),),
    "warmth -0.2": (Disturbance("warmth", -0.2),),
}
"""Of a part in colour only."""
TINT = (1.0, 0.93, 0.86)
"""Of the light on the tiles in colour: there is no public part in colour with defects in any package."""
PARTS: dict[str, Callable[[int], LabelledPart]] = {
    "tiles": lambda seed: _shuffled(tiles(N_FIT, seed=seed), seed),
    "tinted tiles": lambda seed: _tinted(_shuffled(tiles(N_FIT, seed=seed), seed)),
    "bricks": lambda seed: bricks_alike(N_FIT, n_good=N_NIGHT + N_HELD_OUT, n_defects=MOST_DEFECTS + 225, seed=seed),
}
"""What a seed's images are drawn from."""


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Projected patch features of some images, image by image."""

    values: NDArray[np.float32]
    grids: NDArray[np.int64]
    """(images, 2) rows and columns."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(images,)"""
        return self.grids.prod(axis=1)

    def of(self, chosen: Iterable[int]) -> NDArray[np.float32]:
        """The patches of the chosen images, one below the other."""
        ends, lengths = np.cumsum(self.lengths), self.lengths
        return np.concatenate([self.values[ends[i] - lengths[i] : ends[i]] for i in chosen])


@dataclass(frozen=True, slots=True, eq=False)
class Night:
    """One drift of one seed: what was photographed, and what the champion says of it."""

    patches: dict[str, Patches]
    """``core``, ``good``, ``defect`` (what may be mixed in), ``held_good``, ``held_defect``."""
    scores: dict[str, NDArray[np.float64]]
    """By the champion, of the same groups; those of ``core`` are of what was put on it."""
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

    def __init__(self, part: LabelledPart, seed: int) -> None:
        self.seed = seed
        self.fitted = list(part.fit)
        self.night, self.held_good = part.good[:N_NIGHT], part.good[N_NIGHT : N_NIGHT + N_HELD_OUT]
        self.mixed_in, self.held_defect = part.defects[:MOST_DEFECTS], part.defects[MOST_DEFECTS:]
        self.kinds = np.array(part.kinds[MOST_DEFECTS:])
        spec, material = BackboneSpec(), prepared(self.fitted, Framing(256))
        usual = build_runtime(spec, neighbourhood=NEIGHBOURHOOD)
        runtime = runtime_for([each.small for each in material.prepared], usual=usual, spec=spec)
        version = fit_version(material, family=PatchCore, runtime=runtime, fpr_budget=0.01, seed=seed)
        responses = measure_responses(version, self.fitted[:MOST_IMAGES], seed=seed)
        self.champion = replace(version, responses=responses)

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
        named = self._told(taken, tables)
        taken["core"] = [disturb(image, named, rng) for image in self.fitted[:N_CORE]]
        tables["core"] = _scored(self.champion, taken["core"])
        raw = {name: _features(self.champion, images) for name, images in taken.items()}
        flat = {name: np.concatenate([row.reshape(-1, row.shape[-1]) for row in rows]) for name, rows in raw.items()}
        projection = PatchProjection.fit(np.concatenate([flat["good"], flat["core"]]), dimensions=128)
        return Night(
            patches={
                name: Patches(projection.apply(flat[name]), np.array([row.shape[:2] for row in rows]))
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

    def _told(self, taken: dict[str, list[Image]], tables: dict[str, dict[str, NDArray[np.float64]]]) -> Changes:
        """What happened, as `flows.curating` tells it of the night with `ESTIMATED_AT` of defects."""
        framing = self.champion.framing
        images = [*taken["good"], *taken["defect"][: n_defects(ESTIMATED_AT)]]
        tonight = moments_of([framing.frame(image) for image in images], version=self.champion, seed=self.seed)
        with TemporaryDirectory() as folder:
            for number, image in enumerate(self.fitted[:N_CORE]):
                PillowImage.fromarray(image).save(Path(folder, f"{number}.png"))
            goods = prepare(list_images(Path(folder)), framing=framing, white_level=255).prepared
            named = named_disturbances(self._verdict(tables, ESTIMATED_AT).to_dict())
            starts = [named] if named else []
            return match(goods, {}, tonight, starts=starts, version=self.champion, seed=self.seed)

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


def _shuffled(part: LabelledPart, seed: int) -> LabelledPart:
    """Goods and defects in an order drawn by the seed: the first of both are the night's."""
    rng = np.random.default_rng(seed)
    return picked(part, rng.permutation(len(part.good)), rng.permutation(len(part.defects)))


def _tinted(part: LabelledPart) -> LabelledPart:
    """The part as a camera in colour takes it under a warm light."""

    def tinted(images: Sequence[Image]) -> list[Image]:
        return [np.rint(image * np.array(TINT)).astype(np.uint8) for image in images]

    return replace(part, fit=tinted(part.fit), good=tinted(part.good), defects=tinted(part.defects))


def n_defects(share: float) -> int:
    """So many of them beside `N_NIGHT` goods are that share of the night."""
    return round(N_NIGHT * share / (1.0 - share))


def _scored(version: DetectorVersion, images: Sequence[Image]) -> dict[str, NDArray[np.float64]]:
    rows = [version.score(image) for image in images]
    columns = {name: np.array([row.covariates[name] for row in rows]) for name in rows[0].covariates}
    return {"score": np.array([row.score for row in rows])} | columns


def _features(version: DetectorVersion, images: Sequence[Image]) -> list[NDArray[np.float32]]:
    """(rows, columns, channels) each."""
    return [version.runtime.features(version.framing.frame(image)) for image in images]


def night_at(part: str, seed: int, name: str, cache: Path, stations: dict[int, Station]) -> Night:
    """From the cache, or photographed now.

    Args:
        part: one of `PARTS`.
        seed: of all draws.
        name: of the drift.
        cache: a folder.
        stations: those of the part that were set up, by seed; one that is set up here is put there.
    """
    file = cache / f"{part}-seed{seed}-{name.replace(' ', '-')}-{N_CORE}-core.npz"
    if file.exists():
        with np.load(file) as stored:
            return Night(
                patches={
                    group: Patches(stored[f"{group}|values"].astype(np.float32), stored[f"{group}|grids"])
                    for group in GROUPS
                },
                scores={group: stored[f"{group}|score"] for group in GROUPS},
                reference_scores=stored["reference"],
                threshold=float(stored["threshold"]),
                defect_shares=stored["shares"],
                kinds=stored["kinds"],
                named=str(stored["named"]),
                seconds=float(stored["seconds"]),
            )
    if seed not in stations:
        stations[seed] = Station(PARTS[part](seed), seed)
    night = stations[seed].night_of((DRIFTS | TRANSFERRED | COLOURED)[name])
    save_night(night, file)
    return night_at(part, seed, name, cache, stations)  # what is judged does not depend on whether it was cached


def save_night(night: Night, file: Path) -> None:
    """Patches in half precision: a twentieth of a per cent of a distance."""
    columns = {f"{group}|values": each.values.astype(np.float16) for group, each in night.patches.items()}
    columns |= {f"{group}|grids": each.grids for group, each in night.patches.items()}
    columns |= {f"{group}|score": values for group, values in night.scores.items()}
    np.savez(
        file,
        reference=night.reference_scores,
        threshold=night.threshold,
        shares=night.defect_shares,
        kinds=night.kinds,
        named=night.named,
        seconds=night.seconds,
        **columns,
    )
