"""A line's verified good images, and what has happened to the station since each of them was taken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from detectors.disturbances.disturbance import KINDS, Changes, Disturbance
from registry import images
from registry.tables import Image, Line, Score, table_of

MAX_CORE = 300
"""A bank of 300 goods is fitted in seconds; one of 200 misses more of what is rare."""
MIN_CORE = 50
"""With fewer, what is rare among goods is not among them, and the judge calls it suspicious."""
MAX_CHANGES = 3
"""Earlier estimates, each with its error, on top of each other; with more, an image is no longer like the line's."""


@dataclass(frozen=True, slots=True)
class Core:
    """Verified goods and how to bring them to tonight's conditions; empty where that cannot be said.

    Attributes:
        files: SHA-256 → the vault's copy, in the order of the hashes.
        changes: SHA-256 → the disturbances since that image was taken.
        tonight: what happened this time, put on top of the earlier ones.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    changes: Mapping[str, Changes] = field(default_factory=dict)
    tonight: Changes = ()

    def under(self, tonight: Changes) -> Core:
        """The same goods with ``tonight``'s disturbances on top."""
        changes = {sha256: (*self.changes[sha256], *tonight) for sha256 in self.files}
        return Core(self.files, changes, (*self.tonight, *tonight))

    def to_json(self) -> list[dict[str, Any]]:
        """Each list of disturbances with the images that it is put on, as `changes_of` reads it."""
        groups: dict[Changes, list[str]] = defaultdict(list)
        for sha256 in self.files:
            groups[self.changes[sha256]].append(sha256)
        return [
            {
                "disturbances": [
                    {"name": each.name, "strength": each.strength, "direction_deg": each.direction_deg}
                    for each in changes
                ],
                "images_sha256": hashes,
            }
            for changes, hashes in groups.items()
        ]


def named_disturbances(check: Mapping[str, Any]) -> Changes:
    """The disturbances that a check's document names with a strength, where they explain the night; else none.

    A strength beyond what the kind allows (a path is carried on beyond its strongest probe) is brought to its limit.

    >>> cause = {"disturbance": "gain", "strength": 0.8, "direction_deg": 0.0}
    >>> named_disturbances({"main_cause": "brightness", "causes": [cause]})
    (Disturbance(name='gain', strength=0.8, direction_deg=0.0, seed=0),)
    >>> named_disturbances({"main_cause": None, "causes": [cause]})
    ()
    """
    if check.get("main_cause") is None:
        return ()
    return tuple(
        _disturbance(cause["disturbance"], cause["strength"], cause.get("direction_deg"))
        for cause in check.get("causes", ())
        if cause.get("disturbance") in KINDS and cause.get("strength") is not None
    )


def changes_of(transferred: Sequence[Mapping[str, Any]]) -> dict[str, Changes]:
    """SHA-256 → disturbances, as `Core.to_json` wrote them."""
    return {
        sha256: tuple(
            _disturbance(each["name"], each["strength"], each["direction_deg"]) for each in group["disturbances"]
        )
        for group in transferred
        for sha256 in group["images_sha256"]
    }


def verified_core(
    session: Session,
    line: Line,
    provenance: Mapping[str, Any],
    *,
    base_version: int,
    before: date,
    n_most: int,
    seed: int,
) -> Core:
    """At most `MAX_CORE` and `n_most` verified goods; an empty core where there are fewer than `MIN_CORE`.

    Verified is what the vault keeps and nobody called a defect: of the images that the champion was fitted on, and of
    those labelled good that it judged before the change. Those that were transferred already for the champion keep those
    changes, unless there are more than `MAX_CHANGES`.

    Args:
        session: of the registry.
        line: whose goods.
        provenance: of the champion.
        base_version: the champion's number.
        before: the night of the change.
        n_most: a core should not outnumber the fresh images.
        seed: of the draw.
    """
    earlier = changes_of(provenance.get("transferred", ()))
    fitted = images.find(session, line, provenance.get("fit_images_sha256", ()))
    found = {
        image.sha256: image for image in [*fitted.values(), *_labelled_before(session, line, base_version, before)]
    }
    changes = {sha256: earlier.get(sha256, ()) for sha256 in found}
    usable = sorted(
        sha256
        for sha256, image in found.items()
        if image.kept_path is not None and image.label != "defect" and len(changes[sha256]) <= MAX_CHANGES
    )
    n = min(len(usable), MAX_CORE, n_most)
    if n < MIN_CORE:
        return Core()
    chosen = sorted(np.random.default_rng(seed).choice(usable, n, replace=False).tolist())
    return Core(
        {sha256: Path(found[sha256].kept_path or "") for sha256 in chosen},
        {sha256: changes[sha256] for sha256 in chosen},
    )


def _labelled_before(session: Session, line: Line, base_version: int, before: date) -> list[Image]:
    score = table_of(Score)
    judged = select(score.c.sha256).where(
        score.c.line_id == line.id, score.c.version == base_version, score.c.night < before
    )
    return list(
        session.scalars(select(Image).where(Image.line_id == line.id, Image.label == "good", Image.sha256.in_(judged)))
    )


def _disturbance(name: str, strength: float, direction_deg: float | None) -> Disturbance:
    return Disturbance(name, KINDS[name].within(float(strength)), direction_deg=float(direction_deg or 0.0))
