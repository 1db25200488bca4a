"""Databases to test on: SQLite always; PostgreSQL when an address is given or its binaries are here.

Every test gets a database of its own, a copied file, or the one PostgreSQL database emptied; and, where it asks for it, a
line whose first version is deployed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session

from detectors.artifact import save_version
from detectors.version import DetectorVersion
from registry.database import Database, open_database, parse_url
from registry.lines import create_line
from registry.tables import Base, Line
from tests.registry.deployments import fit
from tests.registry.fake_store import FakeStore

URL_VARIABLE = "HALFSIGMA_TEST_POSTGRES_URL"
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[4]))
BACKENDS = ["sqlite"] + (["postgresql"] if os.environ.get(URL_VARIABLE) or BINARIES else [])

NIGHT = date(2026, 11, 23)
AT = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


def _run_as_other(command: list[str], folder: Path) -> None:
    """PostgreSQL refuses to run as root: as root, run it as the user that its package made."""
    other: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **other,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a server's maintenance database: the one given, or one of our own on loopback."""
    if os.environ.get(URL_VARIABLE):
        yield os.environ[URL_VARIABLE]
        return
    folder = Path(tempfile.mkdtemp(prefix="halfsigma-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    binaries, data, port = BINARIES[-1].parent, folder / "data", _free_port()
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    control = [str(binaries / "pg_ctl"), "-D", str(data), "-w"]
    try:
        initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "halfsigma", "-A", "trust", "--no-sync"]
        _run_as_other([*initdb, "-E", "UTF8", "--locale=C.UTF-8"], folder)
        _run_as_other([*control, "-l", str(folder / "log"), "-o", options, "start"], folder)
        try:
            yield f"postgresql://halfsigma@127.0.0.1:{port}/postgres"
        finally:
            _run_as_other([*control, "-m", "immediate", "stop"], folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_execute(postgres_server: str) -> Iterator[Callable[[str], None]]:
    """Run a statement on the server, outside of any transaction."""
    engine = create_engine(parse_url(postgres_server), isolation_level="AUTOCOMMIT")

    def execute(statement: str) -> None:
        with engine.connect() as connection:
            connection.execute(text(statement))

    yield execute
    engine.dispose()


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database in which there is nothing yet."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path}/home/halfsigma.db"
        return
    yield from _new_postgres(request, template="template0")


@pytest.fixture(scope="session")
def migrated(backend: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a migrated database: the template of SQLite's, the only one on PostgreSQL."""
    if backend == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('template')}/halfsigma.db"
        open_database(url).close()
        yield url
        return
    for url in _new_postgres(request, template="template0"):
        open_database(url).close()
        yield url


@pytest.fixture(scope="session")
def empty_all(backend: str, migrated: str) -> Iterator[Callable[[], None]]:
    """Take every row out of the PostgreSQL database, whatever triggers and foreign keys say."""
    with Database(migrated) as database:
        deletes = "; ".join(f"DELETE FROM {table}" for table in Base.metadata.tables)

        def empty() -> None:
            with database.engine.begin() as connection:
                connection.exec_driver_sql(f"SET LOCAL session_replication_role = replica; {deletes}")

        yield empty


@pytest.fixture
def url(backend: str, migrated: str, empty_all: Callable[[], None], tmp_path: Path) -> Iterator[str]:
    """The address of a database at the newest schema, with no rows."""
    if backend == "sqlite":
        path = tmp_path / "halfsigma.db"
        shutil.copyfile(str(make_url(migrated).database), path)
        yield f"sqlite:///{path}"
        return
    yield migrated
    empty_all()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with open_database(url) as opened:
        yield opened


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.session() as opened:
        yield opened


@pytest.fixture
def line(session: Session) -> Line:
    made = create_line(session, "tiles", detector="patchcore", at=AT)
    session.commit()
    return made


@pytest.fixture(scope="session")
def saved(version: DetectorVersion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "version"
    save_version(version, folder)
    return folder


def _new_postgres(request: pytest.FixtureRequest, *, template: str) -> Iterator[str]:
    server, execute = (request.getfixturevalue(name) for name in ("postgres_server", "postgres_execute"))
    name = f"halfsigma_test_{uuid.uuid4().hex}"
    execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def store(saved: Path) -> FakeStore:
    return FakeStore(saved)


@pytest.fixture
def deployed(session: Session, line: Line, store: FakeStore) -> FakeStore:
    """Version 1 is champion."""
    fit(session, line, store, 1)
    session.commit()
    return store
