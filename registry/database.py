"""Open, migrate and use the database: SQLite (WAL) by default, PostgreSQL by URL.

Transactions: on SQLite a statement that reads runs by itself, and the first statement that writes takes the
write lock (``BEGIN IMMEDIATE``), waiting up to ``BUSY_TIMEOUT_S`` for other writers. A transaction therefore
never has to turn a read lock into a write lock, the one case in which SQLite gives up without waiting. What
must not change between reading and writing is guarded by compare-and-set and UNIQUE constraints, on both
databases.

Every error of a driver leaves as ``halfsigma.DatabaseError`` with a hint, the driver's own as ``__cause__``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from halfsigma import DatabaseError, __version__
from migrations import HEAD, REVISIONS, VERSION_TABLE
from registry.tables import Base, table_of

BUSY_TIMEOUT_S = 30.0  # longest wait for another writer: well above the largest batch (some 0.1 s)
CONNECT_TIMEOUT_S = 10  # PostgreSQL: a plant's network answers at once or not at all
MIGRATION_LOCK = 0x68616C66  # "half": PostgreSQL's advisory lock while the schema changes

DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}

SQLITE_HINTS = {
    "SQLITE_READONLY": "make the file and its folder writable, or point HALFSIGMA_HOME at a folder that is",
    "SQLITE_CANTOPEN": "check that the folder exists and is writable, or point HALFSIGMA_HOME elsewhere",
    "SQLITE_PERM": "check the permissions of the file and its folder",
    "SQLITE_NOTADB": "the file is not a SQLite database: move it away, or give another address",
    "SQLITE_CORRUPT": "the file is damaged: restore it from a backup (`sqlite3 FILE .recover` may help)",
    "SQLITE_FULL": "the disk (or its quota) is full: make room and run this again (nothing was written)",
    "SQLITE_BUSY": "another process has been writing for long: wait for it to end, then run this again",
    "SQLITE_LOCKED": "another process has been writing for long: wait for it to end, then run this again",
    "SQLITE_IOERR": "the disk failed to read or write: see whether it is full, and check it (network folders do not carry SQLite)",
    "SQLITE_CONSTRAINT": "the database refuses this by one of its rules; nothing was written",
}
POSTGRES_HINTS = {  # by the class (first two characters) of the SQLSTATE
    "08": "check that the server runs and is reachable at this address",
    "23": "the database refuses this by one of its rules; nothing was written",
    "25": "the server refuses to write (is it a read-only replica?): connect to the primary",
    "28": "check user and password in the address",
    "3D": "create the database first: createdb NAME",
    "40": "another transaction was in the way: run this again",
    "42": "check that the user owns the tables, and that no other program uses their names",
    "53": "the server is out of disk, memory or connections: make room, then run this again",
    "55": "another transaction was in the way: run this again",
    "57": "the server is shutting down or was told to stop: wait until it is back, then run this again",
    "58": "the server's disk failed to read or write: check it, and the server's log",
    "XX": "the server reports damage or a fault of its own: see its log",
}
UNREACHABLE_HINT = POSTGRES_HINTS["08"]


class Database:
    """One address, one engine; sessions that commit as a whole or not at all.

    The schema is neither created nor checked until ``migrate``; ``open_database`` does both.
    """

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        self.engine = _create_engine(self.url)

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every pooled connection; the database may be used again afterwards."""
        self.engine.dispose()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session that commits when the block ends and rolls back when it raises; its rows outlive it."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session
            session.commit()

    def revision(self) -> str | None:
        """The schema's revision, or None when there is none yet; one query."""
        try:
            with self.engine.connect() as connection:
                return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one_or_none()
        except DatabaseError as error:
            if _is_missing_table(error):
                return None
            raise

    def migrate(self) -> None:
        """Bring the schema to this code's revision; one query when it is there already.

        Raises DatabaseError when the schema is newer than this code.
        """
        if not self._is_behind(self.revision()):
            return
        from alembic import command  # some 0.2 s: only when there is something to do
        from alembic.config import Config

        import migrations

        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
        with self.migration_lock() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, HEAD)

    @contextmanager
    def migration_lock(self) -> Iterator[Connection]:
        """A connection in a transaction that no other migration can be in at the same time.

        On SQLite foreign keys are checked at its end, not on the way: changing a table there means to make it
        anew (https://www.sqlite.org/lang_altertable.html#otheralter).
        """
        with self.engine.connect() as connection:
            is_sqlite = connection.dialect.name == "sqlite"
            if is_sqlite:
                connection.exec_driver_sql("PRAGMA foreign_keys = OFF")  # has no effect once a transaction began
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            try:
                yield connection
                if is_sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise DatabaseError(
                        "the migration would leave rows of no line",
                        hint="nothing was changed; please report this",
                    )
                connection.commit()
            finally:
                connection.rollback()  # of what was not committed
                if is_sqlite:
                    connection.exec_driver_sql("PRAGMA foreign_keys = ON")

    def _is_behind(self, revision: str | None) -> bool:
        if revision is not None and revision not in REVISIONS:
            raise DatabaseError(
                f"the database's schema is revision {revision}, newer than revision {HEAD}, "
                f"the newest that halfsigma {__version__} knows",
                hint="install the newer halfsigma that made it, or give another database",
            )
        return revision != HEAD


def open_database(url: str) -> Database:
    """A database that is there and at this code's schema: folder, file and tables are created when missing.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with open_database(f"sqlite:///{folder}/new/halfsigma.db") as database:
    ...         database.revision() == HEAD
    True
    """
    database = Database(url)
    if database.url.drivername.startswith("sqlite") and _sqlite_file(database.url) is not None:
        folder = Path(str(_sqlite_file(database.url))).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(
                f"cannot create the folder {folder} for the database: {error.strerror}",
                hint="make its parent writable, or point HALFSIGMA_HOME at a folder that is",
            ) from error
    try:
        database.migrate()
    except BaseException:
        database.close()
        raise
    return database


def insert(session: Session, model: type[Base]) -> sqlite.Insert | postgresql.Insert:
    """An INSERT of this session's database into the model's table, with ``on_conflict_…`` at hand."""
    table = table_of(model)
    return sqlite.insert(table) if session.get_bind().dialect.name == "sqlite" else postgresql.insert(table)


def parse_url(url: str) -> URL:
    """The address with the driver we ship; DatabaseError for what is no address of SQLite or PostgreSQL."""
    hint = "write sqlite:////absolute/path/halfsigma.db or postgresql://user:password@host/database"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise DatabaseError("the database's address cannot be read as a URL", hint=hint) from error
    backend = parsed.get_backend_name()
    if backend not in DRIVERS:
        raise DatabaseError(f"the database's address begins with {backend!r}, which is not supported", hint=hint)
    return parsed.set(drivername=DRIVERS[backend])


def _sqlite_file(url: URL) -> str | None:
    """The file's path, or None for a database in memory."""
    name = url.database
    if not name or name == ":memory:":
        return None
    return name.removeprefix("file:") if name.startswith("file:") else name


def _create_engine(url: URL) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    connect_args: dict[str, Any] = (
        {"timeout": BUSY_TIMEOUT_S, "isolation_level": "IMMEDIATE"}
        if is_sqlite
        else {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "halfsigma"}
    )
    try:
        engine = create_engine(
            url,
            connect_args=connect_args,
            pool_pre_ping=not is_sqlite,
            json_serializer=partial(json.dumps, allow_nan=False, ensure_ascii=False),
        )
    except (NoSuchModuleError, ImportError, SQLAlchemyError) as error:
        raise DatabaseError(
            f"the driver for {url.drivername} cannot be loaded: {error}", hint="install halfsigma again"
        ) from error
    event.listen(engine, "handle_error", partial(_to_database_error, url), retval=True)
    if is_sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("foreign_keys = ON", "synchronous = NORMAL"):
        cursor.execute(f"PRAGMA {pragma}")
    _switch_to_wal(cursor)
    cursor.close()


def _switch_to_wal(cursor: Any) -> None:
    """Switching needs the file for itself, and SQLite does not wait for it: two first openers try in turn.

    A file that may only be read keeps the mode it has.
    """
    import sqlite3

    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith("SQLITE_READONLY"):
                return
            if not name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _to_database_error(url: URL, context: ExceptionContext) -> DatabaseError | None:
    """The one place where a driver's error becomes ours; None leaves what is not the driver's as it is."""
    if context.is_pre_ping or not isinstance(context.sqlalchemy_exception, DBAPIError):
        return None
    original = context.original_exception
    where = url.render_as_string(hide_password=True)
    what = " ".join(str(original).split()) or type(original).__name__
    return DatabaseError(f"database {where}: {what}", hint=hint_for(original))


def hint_for(error: BaseException) -> str:
    """What to do about a driver's error, by SQLite's result code or PostgreSQL's SQLSTATE."""
    name = str(getattr(error, "sqlite_errorname", None) or "")
    for prefix, hint in SQLITE_HINTS.items():
        if name.startswith(prefix):
            return hint
    sqlstate = str(getattr(error, "sqlstate", None) or "")
    if sqlstate[:2] in POSTGRES_HINTS:
        return POSTGRES_HINTS[sqlstate[:2]]
    if type(error).__module__.startswith("psycopg") and not sqlstate:
        return UNREACHABLE_HINT  # refused, timed out, cut off: no server was there to give a state
    return "this may be a fault of halfsigma: please report it with this message"


def _is_missing_table(error: DatabaseError) -> bool:
    driver = error.__cause__
    return getattr(driver, "sqlstate", None) == "42P01" or "no such table" in str(driver)
