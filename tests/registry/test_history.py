"""Which version judged this part on the 14th of August, and why was it there: told right for every image and instant."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.orm import Session

from halfsigma import UsageError
from registry import audit, following, history, promotion, scores
from registry.deployment import mirror_version
from registry.history import Deployed, Judgement, parse_instant
from registry.scores import ScoreRow
from registry.tables import Line
from tests.registry.fake_store import FakeStore

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
N_CHANGES, N_IMAGES, N_PAIRS = 40, 150, 1000


def _judge(
    session: Session, line: Line, version: int, number: int, at: datetime, *, shadow: bool = False, name: str = ""
) -> None:
    scores.log_scores(
        session,
        line,
        version,
        [
            ScoreRow(
                sha256=f"{number:064x}",
                name=name or f"{number}-{at.isoformat()}.png",
                captured_at=at - timedelta(hours=3),
                night=(at - timedelta(hours=3)).date(),
                score=float(version),
                judged_at=at,
                shadow=shadow,
            )
        ],
    )


@dataclass
class Books:
    """The test's own record, kept by hand: who is champion since when, and who judged which image when."""

    stack: list[int] = field(default_factory=list)
    since: list[datetime] = field(default_factory=list)
    champions: list[tuple[int, str]] = field(default_factory=list)
    judged: dict[int, list[tuple[datetime, int, str]]] = field(default_factory=dict)

    def change(self, at: datetime, why: str) -> None:
        self.since.append(at)
        self.champions.append((self.stack[-1], why))

    def champion(self, at: datetime) -> tuple[int, str] | None:
        place = bisect_right(self.since, at)
        return self.champions[place - 1] if place else None

    def judge_of(self, image: int, at: datetime) -> tuple[int, str] | None:
        before = [(version, why) for when, version, why in self.judged.get(image, []) if when <= at]
        return before[-1] if before else None


def _live_a_year(session: Session, line: Line, store: FakeStore, cache: Path, rng: np.random.Generator) -> Books:
    """40 promotions, rollbacks and moves in MLflow at random instants; images judged again and again between them."""
    books = Books()
    minutes = np.sort(rng.choice(np.arange(60, 365 * 24 * 60), N_CHANGES + 1, replace=False))
    instants = [NEW_YEAR + timedelta(minutes=int(minute)) for minute in minutes]
    n_versions = 1
    store.add(1)
    mirror_version(session, line, 1, store.folder, store.tags("tiles", 1))
    promotion.deploy_first(session, line, store, 1, at=instants[0])  # type: ignore[arg-type]
    books.stack.append(1)
    books.change(instants[0], "the line's first version")
    for number, at in enumerate(instants[1:]):
        kind = str(rng.choice(["promote", "move", "roll back"], p=[0.45, 0.2, 0.35]))
        if kind == "roll back" and len(books.stack) > 1:
            why = f"rollback {number}"
            promotion.rollback(
                session,
                line,
                store,  # type: ignore[arg-type]
                replaces=books.stack.pop(),
                actor="ann",
                document={"reason": why},
                cache=cache,
                at=at,
            )
        else:
            n_versions += 1
            store.add(n_versions)
            mirror_version(session, line, n_versions, store.folder, store.tags("tiles", n_versions))
            if kind == "move":
                why = following.MOVED_IN_MLFLOW
                store.set_alias(line.name, "champion", n_versions)
                following.follow(session, line, store, cache=cache, at=at)  # type: ignore[arg-type]
            else:
                why = f"promotion {number}"
                promotion.promote(
                    session,
                    line,
                    store,  # type: ignore[arg-type]
                    n_versions,
                    replaces=books.stack[-1],
                    actor="halfsigma",
                    document={"reason": why},
                    cache=cache,
                    at=at,
                )
            books.stack.append(n_versions)
        books.change(at, why)
    for minute in np.sort(rng.integers(int(minutes[0]), 365 * 24 * 60, 3 * N_IMAGES)):
        at, image = NEW_YEAR + timedelta(minutes=int(minute)), int(rng.integers(N_IMAGES))
        version, why = books.champion(at) or (0, "")
        _judge(session, line, version, image, at)
        if rng.random() < 0.3:  # a challenger scored along, which judged nothing
            other = int(rng.integers(1, n_versions + 1))
            _judge(session, line, other, image, at + timedelta(seconds=1), shadow=True)
        books.judged.setdefault(image, []).append((at, version, why))
    return books


@pytest.fixture
def store(saved: Path) -> FakeStore:
    return FakeStore(saved)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_year_of_40_changes_is_reconstructed_for_1000_random_images_and_instants(
    session: Session, line: Line, store: FakeStore, tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    books = _live_a_year(session, line, store, tmp_path, rng)
    assert len(books.since) == N_CHANGES + 1
    n_judged = 0
    for _ in range(N_PAIRS):
        image, at = int(rng.integers(N_IMAGES)), NEW_YEAR + timedelta(minutes=float(rng.uniform(0, 365 * 24 * 60)))
        changes = history.deployments(session, line, until=at)
        told = history.answer(changes, history.judgements(session, line, f"{image:064x}"), at=at)
        expected = books.judge_of(image, at)
        assert (told.version, told.deployment and told.deployment.reason) == (expected or (None, None))
        n_judged += expected is not None
        champion = history.answer(changes, None, at=at)
        assert (champion.version, champion.deployment and champion.deployment.reason) == (
            books.champion(at) or (None, None)
        )
    assert n_judged > N_PAIRS / 3


def test_the_audit_is_one_unbroken_chain_of_champions(
    session: Session, line: Line, store: FakeStore, tmp_path: Path
) -> None:
    _live_a_year(session, line, store, tmp_path, np.random.default_rng(3))
    changes = history.deployments(session, line)
    assert [change.replaced for change in changes] == [None, *(change.version for change in changes[:-1])]


def test_a_folder_begun_under_one_champion_is_judged_by_it_to_its_end(
    session: Session, line: Line, store: FakeStore
) -> None:
    for number, hours in ((1, 0), (2, 5)):
        store.add(number)
        mirror_version(session, line, number, store.folder, store.tags("tiles", number))
        audit.record(
            session,
            actor="ann",
            action="promoted",
            line=line,
            version=number,
            document={"from": number - 1 or None, "reason": f"because of {number}"},
            at=NEW_YEAR + timedelta(hours=hours),
        )
    _judge(session, line, 1, 7, NEW_YEAR + timedelta(hours=6))
    at = NEW_YEAR + timedelta(hours=7)
    changes = history.deployments(session, line)
    told = history.answer(changes, history.judgements(session, line, f"{7:064x}"), at=at)
    assert (told.version, told.deployment and told.deployment.reason) == (1, "because of 1")
    assert history.answer(changes, None, at=at).version == 2


def test_scores_of_older_installations_count_from_when_they_were_photographed(
    session: Session, line: Line, store: FakeStore
) -> None:
    store.add(1)
    mirror_version(session, line, 1, store.folder, store.tags("tiles", 1))
    scores.log_scores(
        session, line, 1, [ScoreRow(sha256="a" * 64, name="x", captured_at=NEW_YEAR, night=NEW_YEAR.date(), score=1.0)]
    )
    (judged,) = history.judgements(session, line, "a" * 64)
    assert judged.judged_at == NEW_YEAR


def test_how_a_version_was_made_is_told_with_its_deployment(session: Session, line: Line) -> None:
    gates = [{"name": "latency_ms", "passed": True}]
    made = {"n_images": 60, "gates": gates, "code": {"halfsigma": "0.1.0"}}
    audit.record(session, actor="halfsigma", action="registered", line=line, version=2, document=made)
    audit.record(session, actor="ann", action="promoted", line=line, version=2, document={"from": 1})
    (change,) = history.deployments(session, line)
    assert {key: change.made[key] for key in made} == made
    assert change.reason == "no reason was given"


def test_the_same_fit_again_months_later_made_nothing(session: Session, line: Line) -> None:
    for code in ("january's", "april's"):
        audit.record(session, actor="halfsigma", action="fitted", line=line, version=1, document={"code": code})
    audit.record(session, actor="halfsigma", action="deployed", line=line, version=1, document={})
    (change,) = history.deployments(session, line)
    assert change.made["code"] == "january's"


def test_an_instant_is_a_moment_or_the_end_of_a_day_in_the_lines_zone() -> None:
    assert parse_instant("2026-08-14T06:30", time_zone="Europe/Vienna") == datetime(2026, 8, 14, 4, 30, tzinfo=UTC)
    assert parse_instant("2026-08-14T06:30+00:00", time_zone="Europe/Vienna") == datetime(
        2026, 8, 14, 6, 30, tzinfo=UTC
    )
    end = parse_instant("2026-08-14", time_zone="Europe/Vienna")
    assert end < datetime(2026, 8, 14, 22, tzinfo=UTC) <= end + timedelta(microseconds=1)
    with pytest.raises(UsageError, match="'last week' is neither"):
        parse_instant("last week", time_zone="UTC")
    for beyond in ("9999-12-31", "0001-01-01T00:00"):
        with pytest.raises(UsageError, match="end of the calendar"):
            parse_instant(beyond, time_zone="Europe/Vienna")


def test_what_only_scored_along_judged_nothing() -> None:
    at = NEW_YEAR
    shadow = Judgement(2, at.date(), "x", at, at, 1.0, 1.0, False, True)
    change = Deployed(at, 2, None, "deployed", "halfsigma", "first", {}, {})
    assert history.answer([change], [shadow], at=at).version is None
