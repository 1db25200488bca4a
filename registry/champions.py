"""The champions of many lines, with MLflow asked once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select

from halfsigma import DetectorError, DriftError, HalfsigmaError, StoreError, UnknownVersion
from registry import following, lines
from registry.database import Database
from registry.deployment import FOREIGN, Deployment
from registry.retrains import OFFERED
from registry.store import MlflowStore
from registry.tables import Line, Retrain


def champions_of(
    database: Database, store: MlflowStore, deployed: Sequence[Line], *, cache: Path
) -> dict[str, int | HalfsigmaError]:
    """By the line's name, its champion's number as `following.champion_of` has it, or why there is none.

    Only lines whose aliases somebody moved, or where a retrain waits for that, are followed one by one.
    """
    moved = moved_lines(database, store, deployed)
    with database.session() as session:
        mirrored = lines.all_aliases(session)
    found: dict[str, int | HalfsigmaError] = {}
    for line in deployed:
        known = mirrored.get(line.id, {})
        if "champion" in known and (moved is None or line.name not in moved):
            found[line.name] = known["champion"]
        else:
            found[line.name] = _followed(database, store, line, cache=cache)
    return found


def moved_lines(database: Database, store: MlflowStore, deployed: Sequence[Line]) -> set[str] | None:
    """The names of those whose aliases somebody moved, or where a retrain waits for that; None while MLflow is away."""
    try:
        actual = store.aliases_of([line.name for line in deployed if line.detector != FOREIGN])
    except StoreError:
        return None  # its breaker keeps the lines that have no mirror from asking again
    with database.session() as session:
        mirrored = lines.all_aliases(session)
        waiting = set(session.scalars(select(Retrain.line_id).where(Retrain.state.in_(OFFERED))))
    return {
        line.name
        for line in deployed
        if line.detector != FOREIGN
        and (line.id in waiting or Deployment.of(actual[line.name]) != Deployment.of(mirrored.get(line.id, {})))
    }


def _followed(database: Database, store: MlflowStore, line: Line, *, cache: Path) -> int | HalfsigmaError:
    try:
        with database.session() as session:
            return following.champion_of(session, line, store, cache=cache)
    except (DetectorError, DriftError, StoreError, UnknownVersion) as error:
        return error
