"""Scores of a detector that is not ours, from a CSV file: watched all the same."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy.orm import Session

from detectors.calibration import conformal_threshold
from drift.reference import Reference
from flows.workspace import Workspace
from halfsigma import RegistryError, ScoreError, UsageError
from registry import audit, deployment, lines, scores
from registry.scores import ScoreRow
from registry.tables import Line

COLUMNS = ("captured_at", "image", "score")
FOREIGN_VERSION = 1
LARGEST_SCORE = 1e30
"""Beyond it is no score but a sentinel, and squares of it are no numbers any more."""
MIN_REFERENCE = 60
"""With fewer, the reference's mean is known to worse than an eighth of a standard deviation."""


@dataclass(frozen=True, slots=True)
class _CsvScore:
    captured_at: datetime
    image: str
    score: float


def log_csv(workspace: Workspace, line_name: str, path: Path, *, time_zone: str | None = None) -> int:
    """Log every row of ``path``; how many were new.

    The first file of a new line becomes its reference: give a period in which the parts were good. The file is read
    and checked whole before anything is logged.

    Raises:
        ScoreError: a column is missing, a score is no finite number, or a time cannot be read; the message names the
            file's line.
        RegistryError: the line has a detector of ours, whose scores these are not.
        UsageError: the zone is none, or not that of a line that is there already: its nights are cut by its own.
    """
    lines.check_line_name(line_name)
    with workspace.database.session() as session:
        known = lines.find_line(session, line_name)
        if known is not None and known.detector != deployment.FOREIGN:
            raise RegistryError(
                f"line {line_name!r} is scored by its own {known.detector}",
                hint="log another detector's scores as a line of its own",
            )
        zone = known.time_zone if known else time_zone or "UTC"
        if time_zone is not None:
            lines.check_time_zone(time_zone)
            if time_zone != zone:
                raise UsageError(
                    f"line {line_name!r} is in {zone}, and --time-zone says {time_zone}",
                    hint="leave it out: it is for a line's first file",
                )
        rows = _read(path, time_zone=zone)
        line = known or _create(session, line_name, rows, path, time_zone=zone)
        threshold = lines.get_version(session, line, FOREIGN_VERSION).threshold
        return scores.log_scores(
            session, line, FOREIGN_VERSION, [_row(row, line=line, threshold=threshold) for row in rows]
        )


def _create(session: Session, line_name: str, rows: list[_CsvScore], path: Path, *, time_zone: str) -> Line:
    if len(rows) < MIN_REFERENCE:
        raise ScoreError(
            f"{path.name} has {len(rows)} scores, a new line's reference needs at least {MIN_REFERENCE}",
            hint="log a longer period of good parts first",
        )
    in_order = sorted(rows, key=lambda row: (row.captured_at, scores.natural_order(row.image)))  # as a night is read
    reference = Reference(np.array([row.score for row in in_order]))
    line = lines.create_line(session, line_name, detector=deployment.FOREIGN, time_zone=time_zone)
    lines.record_version(
        session,
        line,
        FOREIGN_VERSION,
        detector=deployment.FOREIGN,
        threshold=conformal_threshold(reference.scores, fpr_budget=line.fpr_budget).value,
        mean_ref=reference.mean,
        sd_ref=reference.sd,
        n_reference=reference.n,
        reference=reference.to_json(),
        origin="foreign",
    )
    lines.set_alias(session, line, "champion", FOREIGN_VERSION)
    audit.record(session, actor=deployment.SYSTEM, action="watched", line=line, version=FOREIGN_VERSION)
    return line


def _read(path: Path, *, time_zone: str) -> list[_CsvScore]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ScoreError(f"{path} cannot be read as text: {error}", hint="give a CSV file in UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ScoreError(
            f"{path.name} lacks the column {missing[0]!r}, found {reader.fieldnames}",
            hint=f"its first line must name {', '.join(COLUMNS)}",
        )
    try:
        rows = [
            _parse(row, where=f"{path.name}, line {number}", time_zone=time_zone)
            for number, row in enumerate(reader, 2)
        ]
    except csv.Error as error:
        raise ScoreError(
            f"{path.name} cannot be read after line {reader.line_num}: {error}",
            hint="nothing was logged; is there a quotation mark that is never closed?",
        ) from error
    if not rows:
        raise ScoreError(f"{path.name} has no scores", hint="give at least one row under the column names")
    return rows


def _parse(row: dict[str, str], *, where: str, time_zone: str) -> _CsvScore:
    try:
        score = float(row["score"])
    except (TypeError, ValueError):
        score = math.nan
    if not abs(score) <= LARGEST_SCORE:
        raise ScoreError(
            f"{where}: score {row['score']!r}, expected a number, of at most {LARGEST_SCORE:g}",
            hint="nothing was logged; mend the file",
        )
    try:
        moment = datetime.fromisoformat(row["captured_at"].strip())
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(time_zone))).astimezone(UTC)
    except (AttributeError, ValueError, OverflowError) as error:
        raise ScoreError(
            f"{where}: captured_at {row['captured_at']!r}, expected like 2026-11-24T02:00:00+01:00",
            hint="nothing was logged; mend the file",
        ) from error
    image = (row["image"] or "").strip()
    if not image:
        raise ScoreError(
            f"{where}: image is empty, expected a name that tells it from others of the same instant",
            hint="nothing was logged; give a file name, a part's or a running number",
        )
    return _CsvScore(moment, image, score)


def _row(row: _CsvScore, *, line: Line, threshold: float) -> ScoreRow:
    return ScoreRow(
        sha256=hashlib.sha256(row.image.encode()).hexdigest(),
        name=row.image,
        captured_at=row.captured_at,
        night=lines.night_of(row.captured_at, line.time_zone),
        score=row.score,
        rejected=row.score > threshold,
    )
