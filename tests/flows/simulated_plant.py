"""A line that exists on paper: its light, what its versions expect, and the nights' real responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drift.reference import Reference
from flows import nightly
from flows.challenger import request_retrain, run_step
from flows.check import check_line
from flows.settings import Settings
from flows.workspace import Workspace
from registry import audit, deployment, history, lines, outbox, promotion, retrains, scores
from registry.columns import utc_now
from registry.database import open_database
from registry.scores import ScoreRow
from tests.registry.fake_store import FakeStore

FIRST = date(2026, 8, 1)
N_REFERENCE, N_NIGHT = 150, 120
LINE = "pads"


@dataclass
class Plant:
    """A line whose light has a level; every version expects a level of its own, and scores are how far they differ."""

    workspace: Workspace
    store: FakeStore
    rng: np.random.Generator
    expects: dict[int, float] = field(default_factory=dict)
    learns: dict[int, float] = field(default_factory=dict)
    """What the n-th version will have learned to expect, where that is not the light of its night."""
    light: float = 0.0
    vetoed: list[str] = field(default_factory=list)
    """What the offered version learned from and people called defects since."""

    def add(self, expects: float, *, base: int | None = None) -> int:
        """A version whose reference are good parts in the light that it expects."""
        number = max(self.store.given, default=0) + 1
        self.store.add(number, origin="fit" if base is None else "retrain", base=base)
        self.expects[number] = expects
        reference = Reference(self.rng.normal(10.0, 1.0, N_REFERENCE))
        with self.workspace.database.session() as session:
            line = lines.find_line(session, LINE) or lines.create_line(session, LINE, detector="patchcore")
            lines.record_version(
                session,
                line,
                number,
                detector="patchcore",
                threshold=float(np.sort(reference.scores)[-2]),
                mean_ref=reference.mean,
                sd_ref=reference.sd,
                n_reference=reference.n,
                reference=reference.to_json(),
                origin="fit" if base is None else "retrain",
                base_version=base,
            )
        return number

    def photograph(self, night: date) -> None:
        """The champion judges a night; so does a challenger in shadow."""
        with self.workspace.database.session() as session:
            line = lines.get_line(session, LINE)
            champion = lines.get_version(session, line).number
            open_one = retrains.open_retrain(session, line)
            along = open_one.new_version if open_one is not None and open_one.state == "shadow" else None
            noise = self.rng.normal(10.0, 1.0, N_NIGHT)
            for number in filter(None, (champion, along)):
                judged = noise + abs(self.light - self.expects[number])
                threshold = lines.get_version(session, line, number).threshold
                rows = [
                    ScoreRow(
                        sha256=f"{night.toordinal() * 1000 + k:064x}",
                        name=f"{k}.png",
                        captured_at=lines.night_start(night, "UTC"),
                        night=night,
                        score=float(score),
                        rejected=bool(score > threshold),
                        shadow=number != champion,
                        judged_at=utc_now(),
                    )
                    for k, score in enumerate(judged)
                ]
                scores.log_scores(session, line, number, rows)

    def retrain(self, line_name: str, night: date, base_version: int, reason: str) -> dict[str, Any]:
        """In place of the flow: all but the fit and its gates is the real thing."""
        row = request_retrain(self.workspace, line_name, night=night, base_version=base_version, reason=reason)
        if row.state == "requested":
            number = self.add(self.learns.get(max(self.store.given) + 1, self.light), base=base_version)
            with self.workspace.database.session() as session:
                for start, to in (("requested", "curated"), ("curated", "fitted"), ("fitted", "gated")):
                    retrains.advance(session, row.id, start=start, to=to, document={"gates": []})
                retrains.advance(session, row.id, start="gated", to="registered", new_version=number)
                audit.record(
                    session,
                    actor=deployment.SYSTEM,
                    action="registered",
                    line=lines.get_line(session, LINE),
                    version=number,
                    document={"night": night.isoformat()},
                )
            row = run_step(self.workspace, row.id)
        return {"id": row.id, "state": row.state}

    def live(self, night: date, *, times: int = 1) -> nightly.LineNight:
        """A night and its run."""
        self.photograph(night)
        for _ in range(times):
            done = nightly._respond(self.workspace, check_line(self.workspace, LINE, night=night))
        return done

    def promote(self, number: int) -> None:
        """By a person's hand."""
        with self.workspace.database.session() as session:
            promotion.promote(
                session,
                lines.get_line(session, LINE),
                self.store,  # type: ignore[arg-type]
                number,
                replaces=self.store.pointing["champion"],
                actor="ann",
                document={"reason": "I know better"},
                cache=self.workspace.cache,
            )

    def configure(self, **counted: int) -> None:
        with self.workspace.database.session() as session:
            lines.update_line(session, lines.get_line(session, LINE), counted=counted)

    def champion(self) -> int:
        with self.workspace.database.session() as session:
            assert self.store.pointing["champion"] == lines.aliases(session, lines.get_line(session, LINE))["champion"]
        return self.store.pointing["champion"]

    def told(self) -> Counter[str]:
        with self.workspace.database.session() as session:
            return Counter(alert.kind for alert in outbox.list_alerts(session))

    def changes(self) -> list[tuple[str, int, str]]:
        with self.workspace.database.session() as session:
            found = history.deployments(session, lines.get_line(session, LINE))
        assert [change.replaced for change in found] == [None, *(change.version for change in found[:-1])]
        return [(change.action, change.version, change.actor) for change in found]


@contextmanager
def simulated_plant(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """With a first version that expects the light as it is."""
    (folder / "version").mkdir()
    store = FakeStore(folder / "version")
    settings = Settings(folder, f"sqlite:///{folder / 'halfsigma.db'}", "memory")
    with open_database(settings.database_url) as database:
        made = Plant(Workspace(settings, database, store), store, np.random.default_rng(7))  # type: ignore[arg-type]
        monkeypatch.setattr(nightly.retraining, "retrain", made.retrain)
        monkeypatch.setattr("registry.promotion.unusable", lambda *_, **__: None)  # these versions have no files
        monkeypatch.setattr("flows.vetoes.learned_defects", lambda *_: made.vetoed)
        monkeypatch.setattr("flows.vetoes.tried_defects", lambda *_: made.vetoed)
        number = made.add(0.0)
        with database.session() as session:
            promotion.deploy_first(session, lines.get_line(session, LINE), store, number)  # type: ignore[arg-type]
        yield made
