"""Alerts: what is worth a person's attention, and the delivery of the outbox."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np

from flows.check import CheckedLine, FailedLine
from flows.workspace import Workspace
from registry import lines, outbox
from registry.outbox import Delivery

ALERTING = frozenset({"warning", "drift", "defect_burst", "sensor_fault"})
"""Verdicts that somebody is told of; `stable` and `insufficient` nights are in the status."""


def alert_of_check(workspace: Workspace, checked: CheckedLine) -> None:
    """Tell of a verdict once a line, night and version, however often the night is checked."""
    if checked.verdict.kind not in ALERTING:
        return
    with workspace.database.session() as session:
        outbox.enqueue(
            session,
            kind=checked.verdict.kind,
            dedup_key=f"check-{checked.line}-{checked.version}-{checked.verdict.night}-{checked.verdict.kind}",
            payload=checked.to_dict(),
            line=lines.get_line(session, checked.line),
        )


def alert_of_failure(workspace: Workspace, failed: FailedLine, night: date) -> None:
    """Tell once a night that a line could not be checked, or what follows from its check not be done: silence would look
    like a good night."""
    step = "check" if failed.checked is None else "response"
    with workspace.database.session() as session:
        outbox.enqueue(
            session,
            kind=f"{step}_failed",
            dedup_key=f"{step}-failed-{failed.line}-{night}",
            payload={
                "line": failed.line,
                "night": night.isoformat(),
                "error": failed.error.message,
                "hint": failed.error.hint,
            },
            line=lines.get_line(session, failed.line),
        )


def deliver(workspace: Workspace) -> Delivery:
    """Send what is due, if an address is configured; what cannot be delivered stays and is tried again."""
    settings = workspace.settings
    if settings.webhook_url is None or settings.webhook_secret is None:
        return Delivery()
    return outbox.deliver_due(
        workspace.database, url=settings.webhook_url, secret=settings.webhook_secret, rng=np.random.default_rng()
    )


def list_all(workspace: Workspace) -> list[dict[str, Any]]:
    """The contract's document of every alert, oldest first."""
    with workspace.database.session() as session:
        names = {line.id: line.name for line in lines.list_lines(session)}
        return [
            {
                "id": alert.id,
                "line": None if alert.line_id is None else names.get(alert.line_id),
                "kind": alert.kind,
                "state": alert.state,
                "attempts": alert.attempts,
                "created_at": alert.created_at.isoformat(),
                "delivered_at": alert.delivered_at.isoformat() if alert.delivered_at else None,
            }
            for alert in outbox.list_alerts(session)
        ]
