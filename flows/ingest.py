"""Score a folder of images with the champion and log the scores."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from detectors.images import Photograph, list_images
from detectors.loading import Unreadable, read_ahead
from detectors.protocol import Progress, no_progress
from detectors.version import DetectorVersion
from flows.workspace import Workspace
from halfsigma import ImageError
from registry import deployment, images, lines, scores
from registry.scores import ScoreRow
from registry.tables import Line, utc_now

BATCH_IMAGES = 64
"""A killed run loses at most this many scores; it is simply run again."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a folder."""

    version: int
    n_scored: int
    n_new: int
    n_reject: int
    unreadable: tuple[Unreadable, ...]


def ingest(
    workspace: Workspace, line_name: str, folder: Path, *, night: date, progress: Progress = no_progress
) -> Ingested:
    """Score every readable image of ``folder``; what was logged before is left as it is.

    Raises:
        UnknownLine, UnknownVersion: there is nothing to score with.
        ImageError: the folder holds no image.
        StoreError: the champion is neither in the cache nor to be had from MLflow.
    """
    paths = list_images(folder)
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        deployment.refuse_foreign(line)
        number = deployment.champion_of(session, line, workspace.store, cache=workspace.cache)
        logged = {(row.sha256, row.name): row for row in scores.night_images(session, line, number, night)}
    version = workspace.load(line_name, number)
    unreadable: list[Unreadable] = []
    batch: list[tuple[ScoreRow, str]] = []
    n_scored = n_new = n_reject = 0
    for index, item in enumerate(read_ahead(paths)):
        progress("scoring", index, len(paths))
        if isinstance(item, Unreadable):
            unreadable.append(item)
            continue
        name = item.path.relative_to(folder).as_posix()
        known = logged.get((item.sha256, name))
        n_scored += 1
        if known is not None:
            n_reject += known.rejected
            continue
        try:
            row = _judge(item, version, name=name, line=line, night=night)
        except ImageError as error:
            unreadable.append(Unreadable(item.path, f"{item.path.name}: {error.message}"))
            n_scored -= 1
            continue
        n_reject += row.rejected
        batch.append((row, str(item.path.resolve())))
        if len(batch) >= BATCH_IMAGES:
            n_new += _log(workspace, line, number, batch)
            batch.clear()
    n_new += _log(workspace, line, number, batch)
    with workspace.database.session() as session:
        reasons = {broken.path.relative_to(folder).as_posix(): broken.reason for broken in unreadable}
        scores.log_unreadable(session, line, night, reasons)
    return Ingested(number, n_scored, n_new, n_reject, tuple(unreadable))


def _judge(photograph: Photograph, version: DetectorVersion, *, name: str, line: Line, night: date) -> ScoreRow:
    judged = version.score(photograph.pixels)
    return ScoreRow(
        sha256=photograph.sha256,
        name=name,
        captured_at=_captured_at(photograph.taken_at, night=night, time_zone=line.time_zone),
        night=night,
        score=judged.score,
        rejected=judged.rejected,
        covariates=judged.covariates,
        judged_at=utc_now(),
    )


def _captured_at(taken_at: datetime | None, *, night: date, time_zone: str) -> datetime:
    """The camera's own time where it agrees with the night, else the night's beginning (docs/decisions)."""
    if taken_at is None or taken_at.date() != night:
        return lines.night_start(night, time_zone)
    return taken_at.replace(tzinfo=ZoneInfo(time_zone)).astimezone(UTC)


def _log(workspace: Workspace, line: Line, number: int, batch: list[tuple[ScoreRow, str]]) -> int:
    with workspace.database.session() as session:
        images.remember(session, line, {row.sha256: path for row, path in batch})
        return scores.log_scores(session, line, number, [row for row, _ in batch])
