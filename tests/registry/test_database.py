"""Opening, migrating and failing: the database is there afterwards, or one clear error says why not."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from halfsigma import DatabaseError, HalfsigmaError, __version__
from migrations import HEAD, VERSION_TABLE
from registry import database as module
from registry.database import Database, hint_for, open_database, parse_url
from registry.lines import create_line, find_line, list_lines
from registry.tables import Base

OURS = frozenset(
    ("02", "03", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "24", "26")
    + ("27", "2B", "2D", "2F", "34", "38", "39", "3B", "3F", "44", "54", "72", "F0", "HV", "P0")
)
"""Classes of SQLSTATE that tell of a mistake in a statement: a fault of halfsigma, not of the server."""

ROOT = Path(module.__file__).parents[1]


def in_python(code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(child: subprocess.Popen[str]) -> str:
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    return out


def test_a_new_database_is_made_with_its_folder_at_the_newest_schema(empty_url: str) -> None:
    with open_database(empty_url) as database:
        assert database.revision() == HEAD
        with database.session() as session:
            assert list_lines(session) == []


def test_opening_again_keeps_what_is_there(empty_url: str) -> None:
    with open_database(empty_url) as database, database.session() as session:
        create_line(session, "tiles", detector="patchcore")
    with open_database(empty_url) as database, database.session() as session:
        assert [line.name for line in list_lines(session)] == ["tiles"]


def test_a_session_that_raises_leaves_nothing_behind(database: Database) -> None:
    with pytest.raises(RuntimeError), database.session() as session:
        create_line(session, "tiles", detector="patchcore")
        raise RuntimeError("half way")
    with database.session() as session:
        assert find_line(session, "tiles") is None


def test_rows_stay_readable_after_their_session(database: Database) -> None:
    with database.session() as session:
        line = create_line(session, "tiles", detector="patchcore")
    assert (line.name, line.policy, line.time_zone) == ("tiles", "auto", "UTC")


def test_many_processes_may_create_the_same_database_at_once(empty_url: str) -> None:
    code = f"""
        from registry.database import open_database
        with open_database({empty_url!r}) as database:
            print(database.revision())
    """
    children = [in_python(code) for _ in range(3)]
    assert [finish(child).strip() for child in children] == [HEAD] * 3


def test_a_second_migration_waits_for_the_first(empty_url: str) -> None:
    with open_database(empty_url):
        pass  # so that there is a file and a folder; then, as if it were old:
    with Database(empty_url) as one, Database(empty_url) as other:
        with one.session() as session:
            session.execute(text(f"DELETE FROM {VERSION_TABLE}"))
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(text(f"DROP TABLE {table.name}"))
            if one.engine.dialect.name == "postgresql":
                session.execute(text("DROP FUNCTION audit_append_only()"))
        second = threading.Thread(target=other.migrate)
        with one.migration_lock():
            second.start()
            second.join(timeout=0.5)
            assert second.is_alive()
        second.join(timeout=30)
        assert one.revision() == HEAD


def test_the_first_opener_waits_for_a_writer_before_it_switches_to_wal(tmp_path: Path) -> None:
    """A file in the old journal mode that another writes to: SQLite itself refuses at once."""
    writer = sqlite3.connect(tmp_path / "half.db", check_same_thread=False)
    writer.execute("CREATE TABLE notes (text)")
    writer.commit()
    writer.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, writer.rollback)
    release.start()
    with open_database(f"sqlite:///{tmp_path}/half.db") as database:
        assert database.revision() == HEAD
    release.join()
    writer.close()


def test_a_process_killed_while_it_migrates_leaves_no_half_schema(empty_url: str) -> None:
    code = f"""
        import os, signal
        from sqlalchemy import event
        from registry.database import Database, open_database
        original = Database.__init__
        def patched(self, url):
            original(self, url)
            @event.listens_for(self.engine, "before_cursor_execute")
            def kill(connection, cursor, statement, *_):
                if "CREATE TABLE score" in statement:
                    os.kill(os.getpid(), signal.SIGKILL)
        Database.__init__ = patched
        open_database({empty_url!r})
    """
    child = in_python(code)
    child.communicate(timeout=60)
    assert child.returncode == -9
    with Database(empty_url) as database:
        assert database.revision() is None
    with open_database(empty_url) as database:
        assert database.revision() == HEAD


def test_a_schema_newer_than_the_code_is_refused_and_says_both_revisions(empty_url: str) -> None:
    with open_database(empty_url) as database, database.session() as session:
        session.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9917'"))
    with pytest.raises(DatabaseError, match=rf"9917.*{HEAD}.*{__version__}") as caught:
        open_database(empty_url)
    assert "install the newer halfsigma" in caught.value.hint


def test_at_the_newest_schema_alembic_is_not_imported_and_one_query_is_asked(url: str) -> None:
    code = f"""
        import sys
        from sqlalchemy import event
        from registry.database import Database
        database = Database({url!r})
        asked = []
        event.listen(database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
        database.migrate()
        heavy = {{"alembic", "mlflow", "torch", "scipy", "pandas", "httpx"}} & set(sys.modules)
        print(len(asked), sorted(heavy))
    """
    assert finish(in_python(code)).split("\n")[0] == "1 []"


def test_our_version_table_leaves_alembics_own_to_others(empty_url: str) -> None:
    """MLflow and Prefect call theirs alembic_version, and may live in the same PostgreSQL database."""
    with open_database(empty_url) as database, database.session() as session:
        session.execute(text("CREATE TABLE alembic_version (version_num TEXT)"))
        session.execute(text("INSERT INTO alembic_version VALUES ('of MLflow')"))
    with open_database(empty_url) as database:
        assert database.revision() == HEAD


def test_two_writers_wait_for_each_other(database: Database) -> None:
    def write(name: str) -> None:
        with database.session() as session:
            list_lines(session)  # reads first, then writes: must not lose for having read
            create_line(session, name, detector="patchcore")
            time.sleep(0.05)

    threads = [threading.Thread(target=write, args=(f"line{n}",)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.session() as session:
        assert len(list_lines(session)) == 5


def test_sqlite_is_in_wal_with_foreign_keys(tmp_path: Path) -> None:
    with open_database(f"sqlite:///{tmp_path}/half.db") as database, database.engine.connect() as connection:
        pragmas = ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
        values = [connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() for pragma in pragmas]
    assert values == ["wal", 1, 30_000, 1]


def test_a_row_of_no_line_is_refused(database: Database) -> None:
    with pytest.raises(DatabaseError) as caught, database.session() as session:
        session.execute(text("INSERT INTO unreadable (line_id, night, name, reason) VALUES (7, '2026-01-01', '', '')"))
    assert "refuses this by one of its rules" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("", "cannot be read as a URL"),
        ("halfsigma.db", "cannot be read as a URL"),
        ("postgresql://host:port/name", "cannot be read as a URL"),
        ("mysql://host/name", "begins with 'mysql'"),
        ("oracle+cx_oracle://host/name", "begins with 'oracle'"),
    ],
)
def test_what_is_no_address_is_refused_with_an_example(url: str, found: str) -> None:
    with pytest.raises(DatabaseError, match=found) as caught:
        parse_url(url)
    assert "sqlite:////absolute" in caught.value.hint and "postgresql://" in caught.value.hint


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+asyncpg"])
def test_every_spelling_of_postgresql_uses_the_driver_that_we_ship(scheme: str) -> None:
    assert parse_url(f"{scheme}://u:p@h/d").drivername == "postgresql+psycopg"


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "half.db"
    path.write_text("these are my notes, not a database\n" * 100)
    with pytest.raises(DatabaseError, match="file is not a database") as caught:
        open_database(f"sqlite:///{path}")
    assert "move it away" in caught.value.hint
    assert path.read_text().startswith("these are my notes")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match="cannot create the folder .*/file/home") as caught:
        open_database(f"sqlite:///{tmp_path}/file/home/half.db")
    assert "HALFSIGMA_HOME" in caught.value.hint


def test_a_database_that_is_a_folder_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="unable to open database file") as caught:
        open_database(f"sqlite:///{tmp_path}")
    assert "HALFSIGMA_HOME" in caught.value.hint


def test_a_read_only_database_is_read_and_refuses_to_write(tmp_path: Path) -> None:
    with open_database(f"sqlite:///{tmp_path}/half.db") as database, database.session() as session:
        create_line(session, "tiles", detector="patchcore")
    with open_database(f"sqlite:///file:{tmp_path}/half.db?mode=ro&uri=true") as database:
        with database.session() as session:
            assert [line.name for line in list_lines(session)] == ["tiles"]
        with pytest.raises(DatabaseError, match="readonly database") as caught, database.session() as session:
            create_line(session, "press", detector="patchcore")
    assert "writable" in caught.value.hint


def test_a_read_only_home_is_an_error_with_a_hint() -> None:
    """As a user to whom permissions apply: root may write anywhere."""
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o555)
        code = f"""
            import os
            from halfsigma import DatabaseError
            from registry.database import Database, open_database
            Database("sqlite://").close()  # the driver is loaded while its files can be read
            if os.geteuid() == 0:
                os.setgroups([]), os.setgid(65534), os.setuid(65534)
            for address in ("sqlite:///{home}/half.db", "sqlite:///{home}/new/half.db"):
                try:
                    open_database(address)
                except DatabaseError as error:
                    print(error.hint)
        """
        lines = finish(in_python(code)).splitlines()
    assert len(lines) == 2 and all("HALFSIGMA_HOME" in line for line in lines)


def test_a_full_disk_is_an_error_with_a_hint_and_loses_nothing(tmp_path: Path) -> None:
    with open_database(f"sqlite:///{tmp_path}/half.db") as database:
        with database.session() as session:
            create_line(session, "tiles", detector="patchcore")
        with (
            pytest.raises(DatabaseError, match="database or disk is full") as caught,
            database.session() as session,
        ):
            session.execute(text("PRAGMA max_page_count = 1"))  # SQLite then stops as on a full disk
            for n in range(5000):
                create_line(session, f"line{n}", detector="patchcore" * 100)
        with database.session() as session:
            assert [line.name for line in list_lines(session)] == ["tiles"]
    assert "make room" in caught.value.hint


def test_a_server_that_is_not_there_is_an_error_with_a_hint_and_without_the_password() -> None:
    with pytest.raises(DatabaseError, match="postgresql.*127.0.0.1") as caught:
        open_database("postgresql://halfsigma:geheim@127.0.0.1:1/half")
    assert "server runs and is reachable" in caught.value.hint
    assert "geheim" not in str(caught.value)


def test_a_database_that_the_server_does_not_have_is_an_error_with_a_hint(url: str, backend: str) -> None:
    if backend == "sqlite":
        with Database(f"{url}-is-not-there") as database:
            assert database.revision() is None  # SQLite makes it; PostgreSQL does not:
        return
    with pytest.raises(DatabaseError, match="does not exist") as caught:
        open_database(f"{url}_is_not_there")
    assert caught.value.hint.startswith(("create the database first", "check that the server runs"))


def test_a_connection_that_the_server_dropped_is_replaced(database: Database, url: str, backend: str) -> None:
    with database.engine.connect() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar() if backend == "postgresql" else None
    if pid is not None:
        with Database(url) as other, other.engine.connect() as connection:
            connection.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
    with database.session() as session:
        assert list_lines(session) == []


def test_a_server_that_goes_away_in_the_middle_is_an_error_and_the_next_session_works(
    database: Database, backend: str
) -> None:
    if backend == "postgresql":
        with pytest.raises(DatabaseError) as caught, database.session() as session:
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        assert "wait until it is back" in caught.value.hint or "reachable" in caught.value.hint
    with database.session() as session:
        assert list_lines(session) == []


def test_a_writer_that_never_ends_is_an_error_after_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.1)
    url = f"sqlite:///{tmp_path}/half.db"
    with open_database(url) as one, open_database(url) as other, one.session() as session:
        create_line(session, "tiles", detector="patchcore")
        with pytest.raises(DatabaseError, match="database is locked") as caught, other.session() as late:
            create_line(late, "press", detector="patchcore")
        with other.session() as reader:
            assert list_lines(reader) == []  # a reader does not wait
    assert "another process has been writing for long" in caught.value.hint


@pytest.mark.parametrize("code", sorted(module.SQLITE_HINTS))
def test_every_sqlite_hint_belongs_to_a_result_code(code: str) -> None:
    assert isinstance(getattr(sqlite3, code), int)
    error = sqlite3.OperationalError("…")
    error.sqlite_errorname = f"{code}_EXTENDED"
    assert hint_for(error) == module.SQLITE_HINTS[code]


def test_every_way_in_which_postgresql_can_fail_us_has_a_hint_of_its_own() -> None:
    """By class of SQLSTATE."""
    classes = {state[:2] for state in psycopg.errors._sqlcodes if len(state) == 5}
    assert classes - OURS == set(module.POSTGRES_HINTS)
    for state in (state for state in psycopg.errors._sqlcodes if state[:2] not in OURS and len(state) == 5):
        assert hint_for(psycopg.errors.lookup(state)("…")) == module.POSTGRES_HINTS[state[:2]]


def test_every_error_of_this_room_is_one_of_ours_with_the_drivers_as_its_cause(tmp_path: Path) -> None:
    with open_database(f"sqlite:///{tmp_path}/half.db") as database:
        with pytest.raises(HalfsigmaError) as caught, database.session() as session:
            session.execute(text("SELECT * FROM nothing"))
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
