"""Versions that exist on paper deployed, promoted and rolled back."""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from pathlib import Path

from sqlalchemy.orm import Session

from registry import audit, deployment, following, lines, outbox, promotion, retrains
from registry.deployment import Deployment
from registry.tables import Line
from tests.registry.fake_store import FakeStore


def fit(session: Session, line: Line, store: FakeStore, number: int) -> Deployment:
    store.add(number)
    deployment.mirror_version(session, line, number, store.folder, store.tags(line.name, number))
    return promotion.deploy_first(session, line, store, number)  # type: ignore[arg-type]


def follow(session: Session, line: Line, store: FakeStore, cache: Path) -> Deployment:
    return following.follow(session, line, store, cache=cache)  # type: ignore[arg-type]


def promote(session: Session, line: Line, store: FakeStore, number: int) -> Deployment:
    return promotion.promote(
        session,
        line,
        store,  # type: ignore[arg-type]
        number,
        replaces=lines.aliases(session, line).get("champion"),
        actor="ann",
        document={},
        cache=store.folder,
    )


def roll_back(session: Session, line: Line, store: FakeStore) -> Deployment:
    return promotion.rollback(
        session,
        line,
        store,  # type: ignore[arg-type]
        replaces=lines.aliases(session, line).get("champion"),
        actor="ann",
        document={"reason": "it rejects everything"},
        cache=store.folder,
    )


def told(session: Session, line: Line) -> list[str]:
    session.flush()
    kinds = [alert.kind for alert in outbox.list_alerts(session, line=line)]
    assert [entry.action for entry in audit.history(session, line) if entry.action in set(kinds)] == kinds
    return kinds


def registered_retrain(session: Session, line: Line, store: FakeStore) -> int:
    """The id of a retrain of version 1 that was tried and given to MLflow as version 2; what comes next is its offer or promotion."""
    store.add(2, origin="retrain", base=1)
    deployment.mirror_version(session, line, 2, store.folder, store.tags(line.name, 2))
    retrain = retrains.request(session, line, night=date(2026, 11, 23), base_version=1, reason="drift")
    for start, to in pairwise(("requested", "curated", "fitted", "gated", "registered")):
        retrains.advance(session, retrain.id, start=start, to=to, new_version=2 if to == "registered" else None)
    return retrain.id
