"""Compare a night's scores with the reference of the version that made them, and keep the verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from drift.fdr import q_values
from drift.reference import Reference
from drift.settings import DriftSettings
from drift.verdict import Verdict, judge
from drift.window import Window
from flows.measuring import measure_all
from flows.workspace import Workspace
from halfsigma import HalfsigmaError
from registry import checks, lines
from registry.champions import champions_of
from registry.checks import NewCheck
from registry.deployment import FOREIGN
from registry.measuring import LineToMeasure, MeasuredLine, Unmeasured
from registry.summaries import keep_summaries
from registry.tables import Line
from registry.windows import windows


@dataclass(frozen=True, slots=True)
class CheckedLine:
    """A line's verdict, and the version that it is about."""

    line: str
    version: int
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """The contract's document of a check."""
        return {"line": self.line, "version": self.version, **self.verdict.to_dict()}


@dataclass(frozen=True, slots=True)
class FailedLine:
    """A line that could not be checked, or not be responded to, and why: the others of the night are, all the same."""

    line: str
    error: HalfsigmaError
    checked: CheckedLine | None = None
    """None where the check failed."""


def check_lines(
    workspace: Workspace, line_names: Sequence[str], *, night: date
) -> tuple[list[CheckedLine], list[FailedLine]]:
    """Check these lines together: their KS p-values are corrected with those of the night's other checked lines.

    A night without images is checked as well: it is `insufficient`, and says so.

    Raises:
        UnknownLine: a line is not there.
        DatabaseError: the database is away; nothing can be said of any line.
    """
    asked = _lines(workspace, line_names)
    champions = champions_of(workspace.database, workspace.store, asked, cache=workspace.cache)
    failed = [FailedLine(name, found) for name, found in champions.items() if isinstance(found, HalfsigmaError)]
    to_measure = [
        LineToMeasure(line.id, line.name, champion)
        for line in asked
        if isinstance(champion := champions[line.name], int)
    ]
    outcomes = measure_all(workspace.database, to_measure, night)
    measured = [each for each in outcomes if isinstance(each, MeasuredLine)]
    failed += [FailedLine(each.name, each.error) for each in outcomes if isinstance(each, Unmeasured)]
    others = _other_p_values(workspace, {line.id for line in asked}, night)
    qs = q_values([each.measurement.tested_p for each in measured] + others)
    checked = [
        CheckedLine(each.name, each.version, judge(each.measurement, q=q))
        for each, q in zip(measured, qs, strict=False)
    ]
    with workspace.database.session() as session:
        checks.record_checks(
            session,
            [
                NewCheck(each.line_id, done.version, night, done.verdict.kind, done.to_dict())
                for each, done in zip(measured, checked, strict=True)
            ],
        )
        keep_summaries(session, [summary for each in measured for summary in each.summarised])
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


def _lines(workspace: Workspace, names: Sequence[str]) -> list[Line]:
    with workspace.database.session() as session:
        known = {line.name: line for line in lines.list_lines(session)}
        return [known.get(name) or lines.get_line(session, name) for name in dict.fromkeys(names)]


def _other_p_values(workspace: Workspace, checked_now: set[int], night: date) -> list[float | None]:
    with workspace.database.session() as session:
        return [
            check.document["ks"]["p"]
            for check in checks.checks_of_night(session, night, without=checked_now)
            if check.document["ks"]["statistic"] is not None
        ]


def draw_check(workspace: Workspace, done: CheckedLine) -> Path:
    """The check as a picture, on this machine."""
    from drift.plots import plot_check

    reference, seen = _reference_and_nights(workspace, done)
    return Path(plot_check(reference, seen, done.verdict, _folder(workspace, done) / "check.png"))


def publish_check(workspace: Workspace, done: CheckedLine, plot: Path) -> None:
    """Put the check's plot and document beside its version in MLflow, where people look."""
    document = plot.with_suffix(".json")
    document.write_text(json.dumps(done.to_dict(), indent=1))
    for path in (plot, document):
        _publish(workspace, done, path)


def publish_evidently(workspace: Workspace, done: CheckedLine) -> Path:
    """Write Evidently's report of the same night and put it beside the version; where it lies on this machine.

    A detector that is not ours has no version in MLflow: its report stays here.

    Raises:
        DriftError: too few images for the report.
        StoreError: MLflow cannot be reached; the report is written all the same.
    """
    from drift.evidently_report import write_evidently_report

    reference, seen = _reference_and_nights(workspace, done)
    page = write_evidently_report(reference, seen[-1], _folder(workspace, done) / "evidently.html")
    with workspace.database.session() as session:
        detector = lines.get_line(session, done.line).detector
    if detector != FOREIGN:
        _publish(workspace, done, page)
    return page


def _publish(workspace: Workspace, done: CheckedLine, path: Path) -> None:
    workspace.store.log_report(done.line, done.version, path, folder=f"nights/{done.verdict.night}")


def _folder(workspace: Workspace, done: CheckedLine) -> Path:
    return workspace.work_folder(f"check-{done.line}-{done.verdict.night}")


def _reference_and_nights(workspace: Workspace, done: CheckedLine) -> tuple[Reference, list[Window]]:
    night = done.verdict.night
    with workspace.database.session() as session:
        line = lines.get_line(session, done.line)
        reference = Reference.from_json(lines.get_version(session, line, done.version).reference)
        seen = windows(session, line.id, done.version, until=night, n_nights=DriftSettings().history_nights)
    if not seen or seen[-1].night != night:
        seen.append(Window(night=night, scores=[]))  # type: ignore[arg-type]  # it makes an array of it
    return reference, seen
