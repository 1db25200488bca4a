"""``halfsigma curate``: one page of what a retrain would learn from a night, what it would leave out, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detectors.disturbances.disturbance import describe
from detectors.photographs.images import Pixels, to_uint8_rgb
from detectors.photographs.loading import Unreadable, read_ahead
from detectors.protocol import Progress
from detectors.version import DetectorVersion
from flows.curating import CuratedNight, curate_night, summary_of
from flows.pages import (
    Command,
    ContactSheet,
    Fact,
    SheetGroup,
    SheetImage,
    heatmap_overlay,
    render_contact_sheet,
    write_mosaic,
)
from flows.workspace import Workspace
from halfsigma import __version__
from registry import deployment, lines, retrains
from registry.columns import utc_now
from registry.curation import Candidate
from registry.tables import Line

KEPT_SIDE_PX = 240
"""Of a picture while the page is made: five hundred of twenty megapixels would not fit into memory."""
MOST_SHOWN = 120
"""Of those left out for one reason."""
SHOWN_TRANSFERRED = 8


@dataclass(frozen=True, slots=True)
class Sheet:
    """Where the contact sheet lies, and what is on it."""

    page: Path
    png: Path
    document: dict[str, Any]


def write_contact_sheet(workspace: Workspace, line_name: str, *, night: date, progress: Progress) -> Sheet:
    """Curate the night as a retrain would, with what people said until now, and show it; nothing is recorded.

    The night is that of the retrain's version where there is one, else the champion's.

    Raises:
        UnknownLine, UnknownVersion: the line is not there, or has no champion.
        TooFewImages: fewer good images remain than a retrain learns from.
    """
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        deployment.refuse_foreign(line)
        asked = [row.base_version for row in retrains.list_retrains(session, line) if row.night == night]
        base_version = asked[-1] if asked else lines.get_version(session, line).number
    curated = curate_night(workspace, line, night=night, base_version=base_version, progress=progress)
    sheet = _sheet(curated, workspace.load(line_name, base_version), line, night, progress)
    folder = workspace.settings.home / "reports" / line_name
    page = render_contact_sheet(sheet, folder / f"curation-{night}.html")
    png = write_mosaic(sheet, folder / f"curation-{night}.png")
    return Sheet(page, png, _document(curated, line_name, night, base_version, page, png))


def _document(
    curated: CuratedNight, line_name: str, night: date, version: int, page: Path, png: Path
) -> dict[str, Any]:
    scores = curated.curation.suspicion.scores
    return {
        "line": line_name,
        "night": night.isoformat(),
        "version": version,
        "page": str(page),
        "png": str(png),
        **summary_of(curated.to_json()),
        "disturbances": describe(curated.core.tonight) if curated.core.tonight else None,
        "waits": curated.curation.waits or None,
        "to_look_at": [
            {"sha256": each.sha256, "image": Path(each.path).name, "score": scores[each.sha256], "label": each.label}
            for each in curated.curation.to_look_at
        ],
    }


def _sheet(
    curated: CuratedNight, champion: DetectorVersion, line: Line, night: date, progress: Progress
) -> ContactSheet:
    curation = curated.curation
    shots = _shots(curated, champion, progress)
    named = [replace(shots[each.sha256]) for each in curation.to_look_at if each.sha256 in shots]
    groups: dict[str, list[SheetImage]] = defaultdict(list)
    for shot in shots.values():
        if shot.reason:
            groups[shot.reason].append(shot)
    chosen = [shots[each.sha256] for each in curation.chosen if each.sha256 in shots]
    n_core = len(curated.core.files)
    n_held_back = len(curation.held_back)
    happened = describe(curated.core.tonight) if curated.core.tonight else "no disturbance was named"
    judged_by = (
        f"verified goods under tonight’s conditions ({happened}; what is left of the change is taken away from their patches)"
        if curated.judge
        else "the champion, since the vault holds too few verified goods or the night is too unlike them"
    )
    return ContactSheet(
        line=line.name,
        night=night,
        lead=f"{len(chosen) - n_held_back} of {len(shots)} images are learned from"
        + (f", with {n_core} verified goods besides. " if n_core else ". ")
        + (
            f"{n_held_back} more, the most suspicious, are held back: they say where the threshold lies, and teach nothing. "
            if n_held_back
            else ""
        )
        + f"Suspects are judged by {judged_by}.",
        facts=(
            Fact("chosen", str(len(chosen)), f"of {len(shots)} images, {n_held_back} of them held back"),
            Fact("left out", str(len(shots) - len(chosen)), f"for {len(groups)} reasons"),
            Fact("verified goods", str(n_core), "learned from besides"),
            Fact("defects, estimated", f"{curation.defect_share:.1%}".replace("%", " %"), "of the night’s images"),
        ),
        to_look_at=tuple(named),
        left_out=tuple(
            SheetGroup(reason, tuple(_worst_first(images)[:MOST_SHOWN]), len(images))
            for reason, images in sorted(groups.items(), key=lambda item: len(item[1]))
        ),
        chosen=tuple(replace(shot, plain=None) for shot in _worst_first(chosen)),
        limit=curation.limit if np.isfinite(curation.limit) else None,
        transferred=_transferred(curated, champion),
        transferred_text=f"{n_core} of them: {happened}. The left one of each pair is the photograph in the vault; the right "
        "one should look like tonight’s. Where it does not, the estimate is wrong, and so is the judge."
        if n_core
        else "None: the vault holds too few, they are too unlike tonight’s images, or the check names no disturbance and this "
        "family would learn a mean of the old and the new conditions.",
        commands=(
            Command("say what images are, by file or SHA-256", f"halfsigma label {line.name} IMAGE … --as defect|good"),
            Command("retrain with what was said", f"halfsigma retrain {line.name}"),
        ),
        written_at=utc_now(),
        warning=curation.waits and f"This night is not learned from yet: {curation.waits}.",
        provenance=(Fact("judge", curation.suspicion.judge), Fact("halfsigma", __version__)),
    )


def _shots(curated: CuratedNight, champion: DetectorVersion, progress: Progress) -> Mapping[str, SheetImage]:
    """Every candidate once, in capture order; its picture is read again for its map."""
    curation = curated.curation
    model = curated.judge or champion.model
    warm = curation.limit
    if not np.isfinite(warm):
        warm = max(curation.suspicion.scores.values(), default=1.0)
    by_hash: dict[str, Candidate] = {each.sha256: each for each in curated.candidates}
    readable = {Path(each.path): each for each in by_hash.values() if each.path}
    pairs: dict[str, tuple[Pixels, Pixels]] = {}
    for index, item in enumerate(read_ahead(list(readable))):
        progress("contact sheet", index, len(readable))
        if isinstance(item, Unreadable) or item.sha256 != readable[item.path].sha256:
            continue
        image = to_uint8_rgb(item.pixels, white_level=champion.white_level)
        heat = model.score(champion.framing.frame(image)).anomaly_map
        small = _shrunk(image)
        pairs[item.sha256] = small, heatmap_overlay(small, heat, warm)
    blank = np.full((KEPT_SIDE_PX // 2, KEPT_SIDE_PX // 2), 127, np.uint8)
    return {
        sha256: SheetImage(
            sha256=sha256,
            name=Path(each.path).name,
            picture=pairs[sha256][1] if sha256 in pairs else blank,
            score=curation.suspicion.scores.get(sha256),
            label=each.label or "",
            reason=curation.left_out.get(sha256, ""),
            plain=pairs[sha256][0] if sha256 in pairs else None,
        )
        for sha256, each in by_hash.items()
    }


def _transferred(curated: CuratedNight, champion: DetectorVersion) -> tuple[tuple[Pixels, Pixels], ...]:
    few = curated.transferred[:SHOWN_TRANSFERRED]
    before = {
        item.path: item.pixels for item in read_ahead([each.path for each in few]) if not isinstance(item, Unreadable)
    }
    return tuple(
        (_shrunk(to_uint8_rgb(before[each.path], white_level=champion.white_level)), _shrunk(each.canvas))
        for each in few
        if each.path in before
    )


def _worst_first(images: list[SheetImage]) -> list[SheetImage]:
    return sorted(images, key=lambda shot: -(shot.score if shot.score is not None else -np.inf))


def _shrunk(image: Pixels) -> Pixels:
    factor = KEPT_SIDE_PX / max(image.shape[:2])
    if factor >= 1.0:
        return image
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
