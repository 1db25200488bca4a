"""Compare a night's scores with the reference of the version that made them, and keep the verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from drift.fdr import q_values
from drift.measurement import Measurement
from drift.reference import Reference
from drift.settings import DriftSettings
from drift.verdict import Verdict, judge, measure
from drift.window import Window
from flows.workspace import Workspace
from halfsigma import DetectorError, DriftError, HalfsigmaError, UnknownVersion
from registry import checks, deployment, lines, scores
from registry.tables import Line


@dataclass(frozen=True, slots=True)
class CheckedLine:
    """A line's verdict and what it was judged by."""

    line: str
    version: int
    reference: Reference
    windows: tuple[Window, ...]
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """The contract's document of a check."""
        return {"line": self.line, "version": self.version, **self.verdict.to_dict()}


@dataclass(frozen=True, slots=True)
class FailedLine:
    """A line that could not be checked, and why: the others of the night are checked all the same."""

    line: str
    error: HalfsigmaError


def check_lines(
    workspace: Workspace, line_names: Sequence[str], *, night: date
) -> tuple[list[CheckedLine], list[FailedLine]]:
    """Check these lines together: their KS p-values are corrected with those of the night's other checked lines.

    A night without images is checked as well: it is `insufficient`, and says so.

    Raises:
        UnknownLine: a line is not there.
        DatabaseError: the database is away; nothing can be said of any line.
    """
    measured, failed = [], []
    for name in line_names:
        try:
            measured.append(_measure(workspace, name, night))
        except (DetectorError, DriftError, UnknownVersion) as error:
            failed.append(FailedLine(name, error))
    others = _other_p_values(workspace, set(line_names), night)
    qs = q_values([each.measurement.ks_p for each in measured] + others)
    checked = []
    for each, q in zip(measured, qs, strict=False):
        done = CheckedLine(each.line, each.version, each.reference, each.windows, judge(each.measurement, q=q))
        _record(workspace, done, night)
        checked.append(done)
    return checked, failed


def check_line(workspace: Workspace, line_name: str, *, night: date) -> CheckedLine:
    """Check one line.

    Raises:
        UnknownLine, UnknownVersion: the line is not there, or has no champion.
    """
    checked, failed = check_lines(workspace, [line_name], night=night)
    for each in failed:
        raise each.error
    return checked[0]


@dataclass(frozen=True, slots=True)
class _MeasuredLine:
    line: str
    version: int
    reference: Reference
    windows: tuple[Window, ...]
    measurement: Measurement


def _measure(workspace: Workspace, name: str, night: date) -> _MeasuredLine:
    with workspace.database.session() as session:
        line = lines.get_line(session, name)
        champion = deployment.champion_of(session, line, workspace.store, cache=workspace.cache)
        number = _judged_by(session, line, champion, night)
        reference = Reference.from_json(lines.get_version(session, line, number).reference)
        windows = scores.windows(session, line, number, until=night, n_nights=DriftSettings().history_nights)
    if not windows or windows[-1].night != night:
        windows = [*windows, Window(night=night, scores=[])]  # type: ignore[arg-type]  # it makes an array of it
    return _MeasuredLine(name, number, reference, tuple(windows), measure(reference, windows))


def _judged_by(session: Session, line: Line, champion: int, night: date) -> int:
    """The champion, unless the night was scored by another version only: a night is judged by who saw it."""
    if scores.count(session, line, champion, night).n_scored:
        return champion
    scored = [
        version.number
        for version in lines.list_versions(session, line)
        if scores.count(session, line, version.number, night).n_scored
    ]
    return max(scored, default=champion)


def _other_p_values(workspace: Workspace, checked_now: set[str], night: date) -> list[float]:
    with workspace.database.session() as session:
        names = {line.id: line.name for line in lines.list_lines(session)}
        of_night = checks.checks_of_night(session, night)
        return [
            check.document["ks"]["p"]
            for line_id, check in of_night.items()
            if names[line_id] not in checked_now and check.document["ks"]["p"] is not None
        ]


def _record(workspace: Workspace, done: CheckedLine, night: date) -> None:
    with workspace.database.session() as session:
        line = lines.get_line(session, done.line)
        checks.record_check(session, line, done.version, night, verdict=done.verdict.kind, document=done.to_dict())


def draw_check(workspace: Workspace, done: CheckedLine) -> Path:
    """The check as a picture, on this machine."""
    from drift.plots import plot_check

    folder = workspace.work_folder(f"check-{done.line}-{done.verdict.night}")
    return Path(plot_check(done.reference, done.windows, done.verdict, folder / "check.png"))


def publish_check(workspace: Workspace, done: CheckedLine, plot: Path) -> None:
    """Put the check's plot and document beside its version in MLflow, where people look."""
    document = plot.with_suffix(".json")
    document.write_text(json.dumps(done.to_dict(), indent=1))
    for path in (plot, document):
        workspace.store.log_report(done.line, done.version, path, folder=f"nights/{done.verdict.night}")
