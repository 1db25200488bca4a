"""The check of a wide night, read from the database, against reading the scores alone.

    python -m benchmarks.check_thousand_lines --home /tmp/wide --lines 1000 --scores 2000

Makes an installation with that many lines (SQLite, MLflow's registry with a champion alias for each, a reference of 300
images with covariates and responses to known disturbances, a month of earlier nights), logs tonight's scores with all
covariates, and checks all lines as `nightly` does. Reading alone is the floor: the same scores by SQLAlchemy, a query a
line, one process; and the score columns as the check takes them, covariates included. What is made stays in the home and
is used again.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
from rich.progress import track
from sqlalchemy import select

from detectors.disturbances.probing import probes
from drift.causes import LEAST_SPREAD
from drift.reference import Reference
from drift.responses import Response
from flows.check import check_lines
from flows.settings import Settings
from flows.workspace import Workspace, open_workspace
from registry import lines
from registry.new_version import model_name
from registry.scores import ScoreRow, log_scores
from registry.tables import COVARIATES, Score, table_of
from registry.windows import read_window

TONIGHT = date(2026, 11, 24)
HISTORY_NIGHTS = 29
HISTORY_IMAGES = 40
"""Of an earlier night: their scores are not read again, so a few do."""
N_REFERENCE = 300
N_COPIES = 10
SCORE = table_of(Score)
CENTRE, SPREAD = 0.5, 10.0
"""Of a covariate, the second in units of `LEAST_SPREAD`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--scores", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    names = [f"line_{k:04d}" for k in range(options.lines)]
    settings = Settings.from_environment({**os.environ, "HALFSIGMA_HOME": str(options.home)})
    with open_workspace(settings) as workspace:
        _make(workspace, names, options.scores)
        print(f"{len(names)} lines x {options.scores} scores with {len(COVARIATES)} covariates; "
              f"{len(os.sched_getaffinity(0))} processors, load {os.getloadavg()[0]:.1f}")  # fmt: skip
        times: dict[str, list[float]] = {}
        for number in range(options.rounds):
            with _clock(times, "reading scores alone"):
                _read_scores(workspace, names)
            with _clock(times, "reading scores and covariates"):
                _read_windows(workspace, names)
            with _clock(times, "the whole check"):
                checked, failed = check_lines(workspace, names, night=TONIGHT)
            assert len(checked) == len(names) and not failed, failed[:3]
            if number == 0:
                verdicts = sorted(each.verdict.kind for each in checked)
                print({kind: verdicts.count(kind) for kind in dict.fromkeys(verdicts)})
        for what, found in times.items():
            floor = np.median(times["reading scores alone"])
            print(f"{what:32s} {min(found):6.2f} s least, {np.median(found):6.2f} s median, {np.median(found) / floor:5.2f} "
                  "x reading scores alone")  # fmt: skip


@contextmanager
def _clock(times: dict[str, list[float]], what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    times.setdefault(what, []).append(time.perf_counter() - start)


def _read_scores(workspace: Workspace, names: list[str]) -> None:
    with workspace.database.session() as session:
        known = {line.name: line.id for line in lines.list_lines(session)}
        for name in names:
            statement = select(SCORE.c.score).where(
                SCORE.c.line_id == known[name], SCORE.c.version == 1, SCORE.c.night == TONIGHT
            )
            np.array(session.scalars(statement).all())


def _read_windows(workspace: Workspace, names: list[str]) -> None:
    with workspace.database.session() as session:
        known = {line.name: line.id for line in lines.list_lines(session)}
        for name in names:
            read_window(session, known[name], 1, TONIGHT, defects=set())


def _make(workspace: Workspace, names: list[str], n_scores: int) -> None:
    with workspace.database.session() as session:
        there = {line.name for line in lines.list_lines(session)}
    missing = [name for name in names if name not in there]
    for index, name in enumerate(track(missing, description="making lines")):
        rng = np.random.default_rng([index, len(name)])
        _register(workspace, name)
        nights = [(TONIGHT - timedelta(days), HISTORY_IMAGES) for days in range(HISTORY_NIGHTS, 0, -1)]
        with workspace.database.session() as session:
            line = lines.create_line(session, name, detector="patchcore")
            reference = _reference(rng)
            lines.record_version(
                session, line, 1, detector="patchcore", threshold=12.0, mean_ref=reference.mean, sd_ref=reference.sd,
                n_reference=reference.n, reference=reference.to_json(), origin="fit",
            )  # fmt: skip
            lines.set_alias(session, line, "champion", 1)
            for night, n in [*nights, (TONIGHT, n_scores)]:
                log_scores(session, line, 1, _rows(rng, name, night, n))
    if missing:
        check_lines(workspace, names, night=TONIGHT - timedelta(1))  # as every night before did


def _register(workspace: Workspace, name: str) -> None:
    """A registered model with one version; a check needs no more of MLflow than where its alias points."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=workspace.settings.tracking_uri, registry_uri=workspace.settings.tracking_uri)
    client.create_registered_model(model_name(name))
    client.create_model_version(model_name(name), source=str(workspace.settings.home))
    client.set_registered_model_alias(model_name(name), "champion", "1")


def _covariates(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    return {name: rng.normal(CENTRE, SPREAD * LEAST_SPREAD[name], n) for name in COVARIATES}


def _reference(rng: np.random.Generator) -> Reference:
    usual = _covariates(rng, N_COPIES)
    responses = [
        Response(
            kind=probe.name,
            strength=probe.strength,
            direction_deg=probe.direction_deg,
            usual={name: tuple(values) for name, values in usual.items()},
            disturbed={
                name: tuple(values + rng.normal(0.0, 20.0 * LEAST_SPREAD[name])) for name, values in usual.items()
            },
            score_changes=tuple(rng.normal(2.0, 0.3, N_COPIES)),
        )
        for probe in probes(side_px=256, colour=False)
    ]
    return Reference(rng.gamma(4.0, 1.0, N_REFERENCE), _covariates(rng, N_REFERENCE), responses=tuple(responses))


def _rows(rng: np.random.Generator, name: str, night: date, n: int) -> list[ScoreRow]:
    scores, measured = rng.gamma(4.0, 1.0, n), _covariates(rng, n)
    start = datetime.combine(night, datetime.min.time(), tzinfo=UTC)
    return [
        ScoreRow(
            sha256=f"{name}-{night}-{k}".ljust(64, "0"),
            name=f"{k:05d}.png",
            captured_at=start + timedelta(seconds=k),
            night=night,
            score=float(scores[k]),
            covariates={covariate: float(values[k]) for covariate, values in measured.items()},
        )
        for k in range(n)
    ]


if __name__ == "__main__":
    main()
