"""Lines that ask for several people: a version is promoted when so many of different names have said so.

An approval is an entry of the audit. It is about one version in place of one champion: when another champion is deployed
meanwhile, it has to be given again.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from registry import audit
from registry.tables import Line

APPROVED = "approved"


def approve(session: Session, line: Line, number: int, *, replaces: int | None, person: str) -> list[str]:
    """Record that a person wants this version; everybody who does, in the order in which they said so."""
    known = approved_by(session, line, number, replaces=replaces)
    if person.casefold() in {name.casefold() for name in known}:
        return known
    document = {"replaces": replaces}
    audit.record(session, actor=person, action=APPROVED, line=line, version=number, document=document)
    return approved_by(session, line, number, replaces=replaces)


def approved_by(session: Session, line: Line, number: int, *, replaces: int | None) -> list[str]:
    """Who wants this version in place of that champion, as long as that champion was deployed without a break."""
    names: dict[str, None] = {}
    for entry in audit.history(session, line):
        if entry.action == APPROVED and entry.version == number and entry.document.get("replaces") == replaces:
            names[entry.actor] = None
        elif entry.action in ("promoted", "rolled_back"):
            names.clear()
    return list(names)


def is_missing(session: Session, line: Line, number: int, *, replaces: int | None) -> str | None:
    """Why a version may not replace the champion yet, or None when enough people have approved it."""
    if line.approvals <= 1:
        return None
    names = approved_by(session, line, number, replaces=replaces)
    if len(names) >= line.approvals:
        return None
    so_far = ", ".join(names) or "nobody"
    return f"the line asks for {line.approvals} people, and {so_far} approved version {number} so far"


def who_promotes(line: Line) -> str:
    """Why a challenger waits, for people."""
    if line.approvals > 1:
        return f"the line asks for {line.approvals} people: each runs halfsigma promote {line.name} --by NAME"
    return f"policy {line.policy}: a person promotes"
