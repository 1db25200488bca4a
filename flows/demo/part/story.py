"""The demo's story as folders: images to fit on, labelled defects, and what the camera saw night after night.

::

    directory/
    ├── good/0001.jpg …               to fit the line on
    ├── golden/<kind>/01.jpg …        labelled defects, the line's golden set
    ├── nights/2026-11-16/0001.jpg …  one folder a night, in the order of capture
    └── truth.json                    seed, source, and which image of which night has which defect
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import cv2
import numpy as np

from detectors.disturbances.disturbance import Disturbance, describe
from detectors.protocol import Progress, no_progress
from flows.demo.part.defects import KINDS
from flows.demo.part.sources import BrakePadSource, OwnImagesSource, PartSource, Pixels, Pool
from halfsigma import ImageError

_DESIGN_SIDE_PX = 256
"""Disturbances in pixels are told for a picture of this side, and grow with larger ones."""
_JPEG_QUALITY = 96
_PNG_COMPRESSION = 3  # of 9: a tenth larger, several times faster
_N_THREADS = 2


@dataclass(frozen=True, slots=True)
class NightPlan:
    """What happens in one night: a title, the share of defective parts, and how the station has changed."""

    title: str
    defect_share: float
    disturbances: tuple[Disturbance, ...] = ()


_AGED = (
    Disturbance("shift", 2.5, direction_deg=-20.0),
    Disturbance("rotation", 0.7),
    Disturbance("gain", 0.88),
    Disturbance("gradient", 0.12, direction_deg=-30.0),
    Disturbance("warmth", 0.05),
)

# Own parts lie and look more varied than rendered ones, and a detector is deaf to what varies anyway:
# measured on magnetic tiles, 12 px and 3 degrees move PatchCore's scores by several SD, a tenth of the light
# by none.
_AGED_MORE = (
    Disturbance("shift", 12.0, direction_deg=-20.0),
    Disturbance("rotation", 3.0),
    Disturbance("gain", 0.75),
    Disturbance("gradient", 0.30, direction_deg=-30.0),
    Disturbance("warmth", 0.10),
)


def _story(change: tuple[Disturbance, ...]) -> tuple[NightPlan, ...]:
    return (
        NightPlan("An ordinary night", 0.02),
        NightPlan("Another ordinary night", 0.02),
        NightPlan("A burst of defects", 0.18),
        NightPlan("The lamp has aged and the fixture has slipped", 0.02, change),
        NightPlan("The night after, at the same changed station", 0.04, change),
    )


STORY = _story(_AGED)
"""The brake pad's five nights."""
OWN_STORY = _story(_AGED_MORE)
"""The same five nights for the user's own images."""


@dataclass(frozen=True, slots=True)
class DemoNight:
    """One written night: its images in the order of capture, and the defects among them (path → kind)."""

    night: date
    title: str
    directory: Path
    images: tuple[Path, ...]
    defects: dict[Path, str]
    masks: dict[Path, Path]
    changed: str
    """What was done to the station, in words; "nothing changed" for an ordinary night."""


@dataclass(frozen=True, slots=True)
class DemoPart:
    """All that was written: folder of good images, golden set (path → kind), and the nights."""

    directory: Path
    source: str
    good: Path
    golden: dict[Path, str]
    nights: tuple[DemoNight, ...]
    seed: int


def write_demo_part(
    directory: Path,
    *,
    first_night: date,
    n_fit: int = 220,
    n_night: int = 120,
    n_golden: int = 30,
    plans: Sequence[NightPlan] = STORY,
    seed: int = 0,
    progress: Progress = no_progress,
) -> DemoPart:
    """Write the brake pad's story (JPEG, 256 × 256 px, colour); the same seed writes the same bytes."""
    source = BrakePadSource(seed=seed)
    return _write(source, directory, first_night, n_fit, n_night, n_golden, plans, seed, progress)


def write_own_part(
    images: Path,
    directory: Path,
    *,
    first_night: date,
    n_fit: int = 220,
    n_night: int = 120,
    n_golden: int = 30,
    plans: Sequence[NightPlan] = OWN_STORY,
    seed: int = 0,
    progress: Progress = no_progress,
) -> DemoPart:
    """Write the same story on the user's own good images, as PNG of their own depth; the originals stay.

    Raises `ImageError` or `TooFewImages` as `OwnImagesSource` does.
    """
    n_nights = n_night * len(plans) + n_golden
    source = OwnImagesSource(images, fit_share=n_fit / (n_fit + n_nights), seed=seed)
    return _write(source, directory, first_night, n_fit, n_night, n_golden, plans, seed, progress)


@dataclass(frozen=True, slots=True)
class _Order:
    """One photograph to take and write."""

    path: Path
    pool: Pool
    index: int
    defect: str | None
    disturbances: tuple[Disturbance, ...]
    seed: np.random.SeedSequence
    mask_path: Path | None


def _write(
    source: PartSource,
    directory: Path,
    first_night: date,
    n_fit: int,
    n_night: int,
    n_golden: int,
    plans: Sequence[NightPlan],
    seed: int,
    progress: Progress,
) -> DemoPart:
    rng = np.random.default_rng(seed)
    suffix = ".jpg" if isinstance(source, BrakePadSource) else ".png"
    seeds = iter(np.random.SeedSequence(seed).spawn(n_fit + n_golden + n_night * len(plans)))
    kinds = list(KINDS)
    good = directory / "good"
    orders = [_Order(good / f"{k + 1:04d}{suffix}", "fit", k, None, (), next(seeds), None) for k in range(n_fit)]
    golden: dict[Path, str] = {}
    for k in range(n_golden):
        kind = kinds[k % len(kinds)]
        path = directory / "golden" / kind.replace(" ", "_") / f"{k // len(kinds) + 1:02d}{suffix}"
        golden[path] = kind
        orders.append(_Order(path, "nights", k, kind, (), next(seeds), None))
    nights: list[DemoNight] = []
    for number, plan in enumerate(plans):
        night = first_night + timedelta(days=number)
        folder = directory / "nights" / night.isoformat()
        spoilt = set(rng.choice(n_night, round(plan.defect_share * n_night), replace=False).tolist())
        # Every kind occurs before one occurs again, and no two nights bring them in the same order.
        rounds = [rng.permutation(len(kinds)) for _ in range(len(spoilt) // len(kinds) + 1)]
        turn = iter(np.concatenate(rounds).tolist())
        paths, defects, masks = [], {}, {}
        disturbances = _at_scale(plan.disturbances, source.side_px)
        for k in range(n_night):
            path = folder / f"{k + 1:04d}{suffix}"
            defect = kinds[next(turn)] if k in spoilt else None
            mask_path = directory / "masks" / night.isoformat() / f"{k + 1:04d}.png" if defect else None
            if defect is not None and mask_path is not None:
                defects[path], masks[path] = defect, mask_path
            index = n_golden + number * n_night + k
            orders.append(_Order(path, "nights", index, defect, disturbances, next(seeds), mask_path))
            paths.append(path)
        nights.append(DemoNight(night, plan.title, folder, tuple(paths), defects, masks, describe(disturbances)))
    for folder in {p.parent for order in orders for p in (order.path, order.mask_path) if p is not None}:
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_N_THREADS) as pool:
        for done, _ in enumerate(pool.map(lambda order: _fulfil(source, order), orders), 1):
            progress("photographs", done, len(orders))
    part = DemoPart(directory, source.name, good, golden, tuple(nights), seed)
    (directory / "truth.json").write_text(json.dumps(_truth(part), indent=1), encoding="utf-8")
    return part


def _at_scale(disturbances: Sequence[Disturbance], side_px: int) -> tuple[Disturbance, ...]:
    factor = side_px / _DESIGN_SIDE_PX
    return tuple(
        Disturbance(d.name, d.strength * factor, direction_deg=d.direction_deg, seed=d.seed)
        if "px" in d.kind.unit.split()
        else d
        for d in disturbances
    )


def _fulfil(source: PartSource, order: _Order) -> None:
    shot = source.take(
        order.pool,
        order.index,
        np.random.default_rng(order.seed),
        defect=order.defect,
        disturbances=order.disturbances,
    )
    _save(order.path, shot.pixels)
    if order.mask_path is not None and shot.mask is not None:
        _save(order.mask_path, shot.mask.astype(np.uint8) * np.uint8(255))


def _save(path: Path, pixels: Pixels) -> None:
    stored = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    jpeg, png = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY], [cv2.IMWRITE_PNG_COMPRESSION, _PNG_COMPRESSION]
    done, data = cv2.imencode(path.suffix, stored, jpeg if path.suffix == ".jpg" else png)
    if not done:
        raise ImageError(f"{path.name} cannot be encoded", hint="try another folder of images")
    path.write_bytes(data.tobytes())


def _truth(part: DemoPart) -> dict[str, object]:
    """What only the maker of the story knows; never shown to the detector."""
    return {
        "source": part.source,
        "seed": part.seed,
        "nights": [
            {
                "night": night.night.isoformat(),
                "title": night.title,
                "changed": night.changed,
                "n_images": len(night.images),
                "defects": {path.name: kind for path, kind in night.defects.items()},
            }
            for night in part.nights
        ],
    }
