"""Score a folder of images with the champion and log the scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from detectors.photographs.images import Photograph, list_images
from detectors.photographs.loading import Unreadable, read_ahead
from detectors.protocol import Progress, no_progress
from detectors.version import DetectorVersion
from flows.workspace import Workspace
from halfsigma import DetectorError, ImageError, StoreError, UnknownVersion
from registry import deployment, following, images, lines, retrains, scores
from registry.columns import storable, utc_now
from registry.scores import ScoreRow
from registry.tables import Line

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
    shadow: int | None = None
    """The challenger that scored along."""


@dataclass(frozen=True, slots=True)
class _Along:
    """A challenger in shadow, and what of the night it has scored already."""

    number: int
    version: DetectorVersion
    logged: frozenset[tuple[str, str]]

    def judge(
        self, photograph: Photograph, measured: Mapping[str, float], captured_at: datetime, *, name: str, night: date
    ) -> ScoreRow:
        judged = self.version.score_along(photograph.pixels, measured=measured)
        return ScoreRow(
            sha256=photograph.sha256,
            name=name,
            captured_at=captured_at,
            night=night,
            score=judged.score,
            rejected=judged.rejected,
            covariates=judged.covariates,
            judged_at=utc_now(),
            shadow=True,
        )


def ingest(
    workspace: Workspace, line_name: str, folder: Path, *, night: date, progress: Progress = no_progress
) -> Ingested:
    """Score every readable image of ``folder``; what was logged before is left as it is, and known by where it lies now.

    Raises:
        UnknownLine, UnknownVersion: there is nothing to score with.
        ImageError: the folder holds no image.
        StoreError: the champion is neither in the cache nor to be had from MLflow.
    """
    paths = list_images(folder)
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        deployment.refuse_foreign(line)
        number = following.champion_of(session, line, workspace.store, cache=workspace.cache)
        logged = {(row.sha256, row.name): row for row in scores.night_images(session, line, number, night)}
    version = workspace.load(line_name, number)
    along = _scores_along(workspace, line, night=night)
    unreadable: list[Unreadable] = []
    batch: list[ScoreRow] = []
    places: list[tuple[str, Path]] = []
    shadows: list[ScoreRow] = []
    n_scored = n_new = n_reject = 0
    for index, item in enumerate(read_ahead(paths)):
        progress("scoring", index, len(paths))
        if isinstance(item, Unreadable):
            unreadable.append(item)
            continue
        name = storable(item.path.relative_to(folder).as_posix())
        known = logged.get((item.sha256, name))
        try:
            row = known or _judge(item, version, name=name, line=line, night=night)
        except ImageError as error:
            unreadable.append(Unreadable(item.path, f"{item.path.name}: {error.message}"))
            continue
        n_scored += 1
        n_reject += row.rejected
        places.append((item.sha256, item.path.resolve()))
        if isinstance(row, ScoreRow):
            batch.append(row)
        if along is not None and (item.sha256, name) not in along.logged:
            shadows.append(along.judge(item, row.covariates, row.captured_at, name=name, night=night))
        if len(places) >= BATCH_IMAGES:
            n_new += _log(workspace, line, number, batch, places)
            batch.clear()
            places.clear()
    n_new += _log(workspace, line, number, batch, places)
    if along is not None:
        with workspace.database.session() as session:
            scores.log_scores(session, line, along.number, shadows)
    with workspace.database.session() as session:
        reasons = {broken.path.relative_to(folder).as_posix(): broken.reason for broken in unreadable}
        scores.log_unreadable(session, line, night, reasons)
    return Ingested(number, n_scored, n_new, n_reject, tuple(unreadable), along.number if along else None)


def _scores_along(workspace: Workspace, line: Line, *, night: date) -> _Along | None:
    """The challenger of a retrain in shadow; a challenger that cannot be loaded must not stop the station."""
    with workspace.database.session() as session:
        retrain = retrains.open_retrain(session, line)
        if retrain is None or retrain.state != "shadow" or retrain.new_version is None:
            return None
        number = retrain.new_version
        logged = frozenset((row.sha256, row.name) for row in scores.night_images(session, line, number, night))
    try:
        return _Along(number, workspace.load(line.name, number), logged)
    except (StoreError, UnknownVersion, DetectorError):
        return None


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


def _log(workspace: Workspace, line: Line, number: int, batch: list[ScoreRow], places: list[tuple[str, Path]]) -> int:
    """Log what is new, and note where each image lies; how many scores were new."""
    # a name that no database can hold would not be found again
    kept = {
        sha256: str(workspace.vault.keep(line.name, path, sha256))
        for sha256, path in places
        if storable(str(path)) != str(path)
    }
    with workspace.database.session() as session:
        images.remember(session, line, {sha256: str(path) for sha256, path in places})
        images.set_kept(session, line, kept)
        return scores.log_scores(session, line, number, batch)
