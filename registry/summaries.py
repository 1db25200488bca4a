"""What a night was reduced to, kept: the nights after it need no more of it than that.

A summary depends on the version's reference, which never changes, and on the night's scores, its labelled defects and
the code that made it. Labels and code are in its key. Scores only ever come in through ``scores.log_scores``, which
counts the night's ``log_revision`` up and takes its summary away in the same transaction; a summary is kept only if the
revision is still the one that was read *before* the scores were, so that a check and an ingest at the same time end
right in either order.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, null, select
from sqlalchemy.orm import Session

import drift
from drift.autocorrelation import LagSums
from drift.nights import Night
from registry.database import insert
from registry.tables import NightSummary, table_of

SUMMARY = table_of(NightSummary)
KEPT_OF_VERSION = select(SUMMARY.c.night, SUMMARY.c.log_revision, SUMMARY.c.key, SUMMARY.c.document).where(
    SUMMARY.c.line_id == bindparam("line_id"),
    SUMMARY.c.version == bindparam("version"),
    SUMMARY.c.night.between(bindparam("first"), bindparam("until")),
)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a night; ``key`` is None when its scores changed since it was last summarised."""

    log_revision: int = 0
    key: str | None = None
    night: Night | None = None
    """None also where the night had too few sound scores for a summary."""


@dataclass(frozen=True, slots=True)
class Summarised:
    """A summary to keep, with the revision of the log that was read before the scores were."""

    line_id: int
    version: int
    night: date
    log_revision: int
    key: str
    summary: Night | None


def kept_summaries(session: Session, line_id: int, version: int, *, first: date, until: date) -> dict[date, Kept]:
    """What is kept of the version's nights from ``first`` to ``until``."""
    rows = session.execute(KEPT_OF_VERSION, {"line_id": line_id, "version": version, "first": first, "until": until})
    return {night: Kept(revision, key, _from_document(night, document)) for night, revision, key, document in rows}


def keep_summaries(session: Session, summaries: Iterable[Summarised]) -> None:
    """Keep these, except where scores of the night were logged since they were read."""
    rows = [
        {
            "line_id": each.line_id,
            "version": each.version,
            "night": each.night,
            "log_revision": each.log_revision,
            "key": each.key,
            "document": _to_document(each.summary),
        }
        for each in sorted(summaries, key=lambda each: (each.line_id, each.version, each.night))
        if _is_finite(each.summary)
    ]
    if not rows:
        return
    statement = insert(session, NightSummary)
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=["line_id", "version", "night"],
        set_={"key": new.key, "document": new.document},
        where=SUMMARY.c.log_revision == new.log_revision,
    )
    session.execute(statement, rows)


def forget_summaries(session: Session, line_id: int, version: int, nights: Iterable[date]) -> None:
    """Say, in the transaction that logs them, that these nights have new scores."""
    rows = [
        {"line_id": line_id, "version": version, "night": night, "log_revision": 1, "document": {}}
        for night in sorted(set(nights))
    ]
    if not rows:
        return
    statement = insert(session, NightSummary).on_conflict_do_update(
        index_elements=["line_id", "version", "night"],
        set_={"log_revision": SUMMARY.c.log_revision + 1, "key": null(), "document": {}},
    )
    session.execute(statement, rows)


def summary_key(defects: Sequence[str] | set[str]) -> str:
    """Of a night with these labelled defects (SHA-256), summarised by this code."""
    return hashlib.sha256("\n".join([_code(), *sorted(defects)]).encode()).hexdigest()


@cache
def _code() -> str:
    """Of everything between the rows and a summary: an upgrade that changes it makes the summaries anew."""
    files = [*sorted(Path(drift.__file__).parent.glob("*.py")), Path(__file__).with_name("windows.py")]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _is_finite(summary: Night | None) -> bool:
    """Scores near the end of the float range overflow to infinity, which JSON does not carry."""
    return summary is None or math.isfinite(
        summary.estimate + summary.unit_variance + summary.extra_variance + summary.lags.square + summary.lags.product
    )


def _to_document(summary: Night | None) -> dict[str, Any]:
    if summary is None:
        return {}
    document = asdict(summary)
    del document["night"]
    return document


def _from_document(night: date, document: dict[str, Any]) -> Night | None:
    if not document:
        return None
    return Night(night=night, **{**document, "lags": LagSums(**document["lags"])})
