"""Every image of the tiles, scored once by one version: goods never seen, real defects, and disturbed copies of both.

Statistics are then tried on nights that are drawn from these scores. Only scores and covariates are kept.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drift.reference import Reference

N_FIT = 300
N_DISTURBED = 400
"""Goods that are disturbed, the first of those never seen."""
DISTURBANCES: tuple[tuple[str, float], ...] = (
    ("gain", 0.8), ("gain", 1.2), ("gain", 1.4), ("gamma", 1.3), ("gamma", 0.8), ("defocus", 0.5), ("defocus", 1.0),
    ("defocus", 2.0), ("motion", 5.0), ("noise", 0.01), ("noise", 0.02), ("shift", 6.0), ("shift", 12.0),
    ("rotation", 1.0), ("rotation", 3.0), ("gradient", 0.3), ("jpeg", 40.0),
)  # fmt: skip
LAMPS: tuple[tuple[str, float], ...] = (("gamma", 1.8), ("gamma", 2.2), ("gain", 1.5), ("gain", 1.7), ("gain", 2.0))
"""Lamp drifts that move the good bulk by half a standard deviation or more; the defects are lit alike."""

Table = dict[str, NDArray[np.float64]]
"""Column → (n,): "score" and the covariates."""


@dataclass(frozen=True, slots=True)
class TileScores:
    """The frozen reference, and a table for every set of images: good, defect, "gain 1.5", "gain 1.5 defect", …"""

    reference: Reference
    tables: dict[str, Table]
    order: NDArray[np.int64]
    """(n,) places of the good table's rows in the natural order of their file names."""


def tile_scores(images: Path, *, seed: int, cache: Path | None = None) -> TileScores:
    """The scores by a PatchCore of 300 goods; some four minutes of two processors, or read from ``cache``."""
    if cache and cache.exists():
        with np.load(cache) as stored:
            tables: dict[str, Table] = {}
            for key in stored.files:
                if "|" in key:
                    kind, name = key.split("|")
                    tables.setdefault(kind, {})[name] = stored[key]
            return TileScores(Reference.from_json(json.loads(str(stored["reference"]))), tables, stored["order"])
    start = time.perf_counter()
    found = _score(images, seed)
    print(f"scored in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    if cache:
        columns = {f"{kind}|{name}": values for kind, table in found.tables.items() for name, values in table.items()}
        np.savez(cache, reference=np.array(json.dumps(found.reference.to_json())), order=found.order, **columns)
    return found


def _score(images: Path, seed: int) -> TileScores:
    from detectors.backbones.backbone import BackboneSpec
    from detectors.backbones.building import build_runtime
    from detectors.backbones.neighbourhood import NEIGHBOURHOOD
    from detectors.disturbances.disturbance import Disturbance, disturb
    from detectors.families.names import family_named
    from detectors.fit import fit_version, prepare, with_responses
    from detectors.photographs.framing import Framing
    from detectors.photographs.images import Pixels, list_images, read_photograph
    from drift.responses import Response

    rng = np.random.default_rng(seed)
    paths = list_images(images / "good")
    shuffled = rng.permutation(len(paths))
    goods = prepare([paths[i] for i in shuffled[:N_FIT]], framing=Framing(side_px=256), white_level=255)
    runtime = build_runtime(BackboneSpec(), neighbourhood=NEIGHBOURHOOD)
    version = fit_version(goods, family=family_named("patchcore"), runtime=runtime, fpr_budget=0.01, seed=seed)
    version = with_responses(version, goods, seed=seed)

    def table(pictures: Iterable[Pixels]) -> Table:
        rows = [version.score(picture) for picture in pictures]
        names = rows[0].covariates
        columns = {name: np.array([row.covariates[name] for row in rows]) for name in names}
        return {"score": np.array([row.score for row in rows])} | columns

    seen = [read_photograph(paths[i]).pixels for i in shuffled[N_FIT:]]
    defects = [read_photograph(path).pixels for path in sorted((images / "defect").rglob("*.*"))]
    tables = {"good": table(seen), "defect": table(defects)}
    for name, strength in dict.fromkeys((*DISTURBANCES, *LAMPS)):
        change = Disturbance(name, strength, direction_deg=30.0, seed=seed)
        tables[f"{name} {strength:g}"] = table(disturb(image, [change], rng) for image in seen[:N_DISTURBED])
        if (name, strength) in LAMPS:
            tables[f"{name} {strength:g} defect"] = table(disturb(image, [change], rng) for image in defects)
        print(f"scored {name} {strength:g}", file=sys.stderr)
    reference = Reference(
        version.reference_scores,
        version.reference_covariates,
        responses=tuple(Response.from_json(response.to_json()) for response in version.responses),
    )
    return TileScores(reference, tables, shuffled[N_FIT:])
