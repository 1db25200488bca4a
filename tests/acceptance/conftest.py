"""A real MLflow server for all acceptance tests, and a line at it for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from detectors.version import DetectorVersion
from flows.settings import Settings
from flows.workspace import Workspace
from registry.database import open_database
from registry.store import MlflowStore
from tests.acceptance.mlflow_server import Server
from tests.acceptance.plant import Plant

AWAY_S = 0.2
"""Instead of half a minute: how long a failed look at MLflow stands."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("mlflow"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def plant(server: Server, tmp_path: Path, version: DetectorVersion, request: pytest.FixtureRequest) -> Iterator[Plant]:
    home = tmp_path / "home"
    home.mkdir()
    settings = Settings(home, f"sqlite:///{home / 'halfsigma.db'}", server.url)
    with open_database(settings.database_url) as database:
        line = f"line_{abs(hash(request.node.name)) % 10**8}"
        made = Plant(Workspace(settings, database, MlflowStore(server.url, away_s=AWAY_S)), line, version)
        made.deploy_first()
        yield made
        made.assert_whole()
