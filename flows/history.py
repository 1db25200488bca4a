"""``halfsigma history``: which version was deployed or judged an image at an instant, and why it was there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from flows.workspace import Workspace
from halfsigma import StoreError, UnknownImage, UnknownVersion, UsageError
from registry import deployment, history, images, lines
from registry.columns import plain, utc_now
from registry.history import Answer, Deployed, Judgement
from registry.tables import Line

SHA256_SHOWN = 12  # hexadecimal characters, enough to tell files apart by eye
MICROSECONDS = 1_000_000
"""In a second."""


def line_history(
    workspace: Workspace,
    line_name: str,
    *,
    image: Path | None = None,
    sha256: str | None = None,
    at: str | None = None,
) -> dict[str, Any]:
    """The document of ``halfsigma history``, from the database alone.

    Raises:
        UnknownLine: there is no such line.
        UnknownImage: the line never judged that image.
        UsageError: both a file and a hash, or an instant that is none.
    """
    if image is not None and sha256 is not None:
        raise UsageError("an image was given twice, by file and by hash", hint="give --image or --sha256")
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        instant = utc_now() if at is None else history.parse_instant(at, time_zone=line.time_zone)
        wanted = _hash_of(image, sha256)
        changes = history.deployments(session, line, until=instant)
        judged = None if wanted is None else history.judgements(session, line, wanted)
    if judged is not None and not judged:
        raise UnknownImage(
            f"line {line_name!r} never judged the image {str(wanted)[:SHA256_SHOWN]}…",
            hint="an image is known by its bytes: give the file as it was photographed, not a converted copy",
        )
    found = history.answer(changes, judged, at=instant)
    asked = instant.astimezone(ZoneInfo(line.time_zone)).isoformat(timespec="seconds")
    return {
        "line": line_name,
        "time_zone": line.time_zone,
        "at": instant.isoformat(),
        "image": wanted,
        "version": found.version,
        "explanation": _explain(line, found, judged=judged, at=asked),
        "deployment": None if found.deployment is None else plain(found.deployment),
        "judgement": None if found.judgement is None else plain(found.judgement),
        "judgements": [] if judged is None else plain(judged),
        "deployments": plain(changes),
    }


def publish_history(workspace: Workspace, line_name: str) -> None:
    """Put the line's whole history beside its champion in MLflow; while MLflow is away it is put there next time."""
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        changes = history.deployments(session, line)
        champion = lines.aliases(session, line).get("champion")
    if not changes or champion != changes[-1].version or line.detector == deployment.FOREIGN:
        return
    document = workspace.work_folder(f"history-{line_name}") / "deployments.json"
    document.write_text(json.dumps(plain(changes), indent=1))
    try:
        workspace.store.log_report(line_name, champion, document, folder="audit")
        last = changes[-1]
        deployed = {"at": last.at.isoformat(), "by": last.actor, "because": last.reason}
        workspace.store.tag(line_name, champion, {f"halfsigma.deployed_{key}": text for key, text in deployed.items()})
    except (StoreError, UnknownVersion):
        return  # the audit has it; what is in MLflow is a copy for people who look there


def history_for_people(document: Mapping[str, Any]) -> None:
    """The answer in words, then the changes of the champion, newest last; instants in the line's zone."""
    from rich.console import Console

    from flows.output import rows_table

    Console().print(document["explanation"], markup=False)
    zone = document["time_zone"]
    rows = [
        {
            **change,
            "at": _shown(change["at"], zone),
            "instead of": change["replaced"],
            "gates": _gates_in_short(change["made"].get("gates")),
            "images": change["made"].get("n_images"),
        }
        for change in document["deployments"]
    ]
    rows_table(rows, ("at", "version", "instead of", "action", "actor", "images", "gates", "reason"))
    if document["judgements"]:
        shown = [{**each, "judged_at": _shown(each["judged_at"], zone)} for each in document["judgements"]]
        rows_table(shown, ("judged_at", "night", "version", "score", "threshold", "rejected", "shadow", "name"))


def _hash_of(image: Path | None, sha256: str | None) -> str | None:
    if image is not None:
        try:
            return images.file_sha256(image)
        except OSError as error:
            raise UsageError(f"{image} cannot be read: {error.strerror}", hint="give a file, or --sha256") from error
    if sha256 is None:
        return None
    if not images.SHA256.fullmatch(sha256.lower()):
        raise UsageError(f"{sha256!r} is no SHA-256", hint="64 hexadecimal digits, as sha256sum prints them")
    return sha256.lower()


def _shown(at: datetime | str, time_zone: str) -> str:
    """An instant (or its ISO text) at the next whole second, in that zone: given to ``--at``, it tells of the state after it.

    >>> _shown("2026-11-28T04:38:21.120000+00:00", "Europe/Vienna")
    '2026-11-28T05:38:22+01:00'
    """
    instant = datetime.fromisoformat(at) if isinstance(at, str) else at
    whole = instant + timedelta(microseconds=-instant.microsecond % MICROSECONDS)
    return whole.astimezone(ZoneInfo(time_zone)).isoformat()


def _explain(line: Line, found: Answer, *, judged: list[Judgement] | None, at: str) -> str:
    if found.judgement is not None:
        verdict = "rejected" if found.judgement.rejected else "accepted"
        head = (
            f"Version {found.version} of line {line.name} {verdict} the image at "
            f"{_shown(found.judgement.judged_at, line.time_zone)}: "
            f"score {found.judgement.score:.4g}, threshold {found.judgement.threshold:.4g}."
        )
    elif judged is not None:
        return f"Line {line.name} had not judged the image by {at}; see the judgements for when it did."
    elif found.version is None:
        return f"Line {line.name} had no champion yet at {at}."
    else:
        head = f"Version {found.version} was the champion of line {line.name} at {at}."
    return f"{head} {_why(found.deployment, line.time_zone)}"


def _why(change: Deployed | None, time_zone: str) -> str:
    if change is None:
        return "The audit does not tell of its deployment: it was deployed before this database was kept."
    instead = "" if change.replaced is None else f" instead of version {change.replaced}"
    made = change.made
    how = ""
    if made:
        n_images = f"{made['n_images']} images" if made.get("n_images") is not None else "images that were not counted"
        gates = made.get("gates")
        tried = f"; gates: {_gates_in_short(gates)}" if gates else ""
        how = f" It was {made['action']} at {_shown(made['at'], time_zone)} from {n_images}{tried}."
    action = change.action.replace("_", " ")
    at = _shown(change.at, time_zone)
    return f"It was {action} at {at} by {change.actor}{instead}: {change.reason}.{how}"


def _gates_in_short(gates: list[Mapping[str, Any]] | None) -> str | None:
    if not gates:
        return None
    failed = [str(gate["name"]) for gate in gates if not gate["passed"]]
    return f"all {len(gates)} passed" if not failed else "not passed: " + ", ".join(failed)
