"""``halfsigma report``: one page of a line's night, from what was logged and the photographs that are still there."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np

from detectors.photographs.loading import Unreadable, read_ahead
from drift.reference import Reference
from flows.check import CheckedLine, check_line
from flows.pages import CauseRow, Chapter, Distribution, Fact, GateRow, ImagePanel, NightRow, Report, render_report
from flows.workspace import Workspace
from halfsigma import HalfsigmaError, UnknownVersion, __version__
from registry import checks, lines, retrains, scores
from registry.columns import utc_now
from registry.scores import NightImage

SHOWN_SUSPECTS = 6
SHOWN_TYPICAL = 3
TIMELINE_NIGHTS = 60


def write_report(workspace: Workspace, line_name: str, *, night: date | None) -> Path:
    """Write the page of ``night``, by default the line's last scored one, and return where it lies.

    Raises:
        UnknownLine: there is no such line.
        UnknownVersion: it has scored nothing yet.
    """
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        scored = scores.nights_scored(session, line)
    if not scored:
        raise UnknownVersion(
            f"line {line_name!r} has scored no image yet",
            hint=f"ingest a night first: halfsigma ingest {line_name} DIR --night YYYY-MM-DD",
        )
    judged_night = night or scored[-1]
    checked = check_line(workspace, line_name, night=judged_night)
    folder = workspace.settings.home / "reports" / line_name
    folder.mkdir(parents=True, exist_ok=True)
    return render_report(_report(workspace, checked, judged_night), folder / f"{judged_night}.html")


def _report(workspace: Workspace, checked: CheckedLine, night: date) -> Report:
    verdict = checked.verdict
    with workspace.database.session() as session:
        line = lines.get_line(session, checked.line)
        seen = scores.night_images(session, line, checked.version, night)
        unreadable = scores.unreadable(session, line, night)
        version = lines.get_version(session, line, checked.version)
        threshold, reference = version.threshold, Reference.from_json(version.reference)
    n_reject = sum(image.rejected for image in seen)
    panels = _panels(workspace, checked, seen)
    window = np.array([image.score for image in seen if image.label != "defect"])
    facts = (
        Fact("images", str(verdict.n), f"worth {verdict.n_effective:.0f} independent ones"),
        Fact("rejected", str(n_reject), f"of {len(seen)} scored"),
        Fact("unreadable", str(len(unreadable)), ", ".join(list(unreadable)[:3])),
        Fact("judged by", f"version {checked.version}", f"threshold {threshold:.4g}"),
    )
    return Report(
        line=checked.line,
        night=night,
        verdict=verdict.kind,
        explanation=verdict.explanation,
        written_at=utc_now(),
        nights=_timeline(workspace, checked.line),
        facts=facts,
        causes=tuple(CauseRow(c.name, c.phrase, c.shift_sd, c.share) for c in verdict.causes),
        distributions=(Distribution("Scores against the reference", reference.scores, window, threshold),)
        if window.size
        else (),
        chapters=(*_retrain_chapter(workspace, checked.line, night), *panels),
        provenance=(Fact("halfsigma", __version__),),
    )


def _timeline(workspace: Workspace, line_name: str) -> tuple[NightRow, ...]:
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        known = checks.list_checks(session, line)[-TIMELINE_NIGHTS:]
        answered = {(row.night, row.base_version): row.state for row in retrains.list_retrains(session, line)}
        counts = {(c.version, c.night): scores.count(session, line, c.version, c.night) for c in known}
    return tuple(
        NightRow(
            night=check.night,
            verdict=check.verdict,  # type: ignore[arg-type]  # the table's CHECK holds it to the six
            n=counts[check.version, check.night].n_scored,  # labelled defects too: they are among the rejected
            bulk_shift_sd=check.document["bulk_shift_sd"],
            bulk_shift_ci=_pair(check.document["bulk_shift_ci"]),
            fpr=None,
            n_reject=counts[check.version, check.night].n_rejected,
            version=f"v{check.version}",
            action=f"retrain: {answered[check.night, check.version]}"
            if (check.night, check.version) in answered
            else "none",
            explanation=check.document["explanation"],
        )
        for check in known
    )


def _pair(interval: list[float | None]) -> tuple[float, float] | None:
    low, high = interval
    return None if low is None or high is None else (low, high)


def _retrain_chapter(workspace: Workspace, line_name: str, night: date) -> tuple[Chapter, ...]:
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        found = [row for row in retrains.list_retrains(session, line) if row.night == night]
    return tuple(
        Chapter(
            title=f"Retrain {row.id}: {row.state}",
            text=row.reason,
            gates=tuple(
                GateRow(gate["name"], gate["value"], gate["limit"], gate["passed"], gate["reason"])
                for gate in row.document.get("gates", [])
            ),
        )
        for row in found
    )


def _panels(workspace: Workspace, checked: CheckedLine, seen: list[NightImage]) -> tuple[Chapter, ...]:
    """The highest-scoring images and some typical ones, scored again for their maps."""
    there = [image for image in seen if _path(image) is not None]
    if not there:
        return ()
    ordered = sorted(there, key=lambda image: image.score)
    middle = len(ordered) // 2
    groups = {
        "The highest scores of the night": ordered[::-1][:SHOWN_SUSPECTS],
        "Typical images": ordered[middle : middle + SHOWN_TYPICAL],
    }
    try:
        version = workspace.load(checked.line, checked.version)
    except HalfsigmaError:  # the registry is away and the cache empty: the page does without maps
        return ()
    chapters = []
    for title, images in groups.items():
        panels = []
        for image, item in zip(images, read_ahead([_path(i) or Path() for i in images]), strict=True):
            if isinstance(item, Unreadable) or item.sha256 != image.sha256:
                continue
            judged = version.score(item.pixels)
            caption = f"{image.name}" + (f", labelled {image.label}" if image.label else "")
            panels.append(ImagePanel(caption, item.pixels, judged.anomaly_map, judged.score, version.threshold.value))
        if panels:
            chapters.append(Chapter(title=title, text="", panels=tuple(panels)))
    return tuple(chapters)


def _path(image: NightImage) -> Path | None:
    for each in (image.kept_path, image.path):
        if each and Path(each).is_file():
            return Path(each)
    return None
