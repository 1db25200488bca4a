"""The migrations end at the models, on SQLite and on PostgreSQL, and lead back."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

import migrations
from halfsigma import DatabaseError
from migrations import HEAD, REVISIONS, VERSION_TABLE
from registry import audit
from registry.database import Database, open_database
from registry.lines import create_line
from registry.tables import Base

FOLDER = Path(migrations.__file__).parent
SCRIPTS = sorted((FOLDER / "versions").glob("[0-9]*.py"))


@pytest.fixture
def database(empty_url: str) -> Iterator[Database]:
    with open_database(empty_url) as opened:
        yield opened


@pytest.fixture
def config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    return config


def downgrade(database: Database, config: Config, revision: str) -> None:
    with database.migration_lock() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def definitions(connection: Connection) -> set[str]:
    """Everything the database says of its schema: also what Alembic does not compare (CHECKs, triggers)."""
    if connection.dialect.name == "sqlite":
        query = f"SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE '%{VERSION_TABLE}%'"
    else:
        mine = f"relnamespace = 'public'::regnamespace AND relname NOT LIKE '%{VERSION_TABLE}%'"
        query = f"""
            SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
             WHERE conrelid IN (SELECT oid FROM pg_class WHERE {mine})
            UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
            UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index
             WHERE indrelid IN (SELECT oid FROM pg_class WHERE {mine})
            UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            UNION ALL SELECT attrelid::regclass || '.' || attname || ' ' || format_type(atttypid, atttypmod)
                || ' ' || attnotnull || ' ' || coalesce(pg_get_expr(adbin, adrelid), '')
                || ' ' || coalesce(attcollation::regcollation::text, '')
              FROM pg_attribute LEFT JOIN pg_attrdef ON attrelid = adrelid AND attnum = adnum
             WHERE attnum > 0 AND attrelid IN (SELECT oid FROM pg_class WHERE {mine} AND relkind = 'r')"""
    return {_normal(row[0]) for row in connection.execute(text(query))}


def _normal(definition: str) -> str:
    """The definition on one line, a table's columns and constraints sorted: a column added later stands at the end.

    A table that SQLite made anew, to change a constraint, has its name in quotes.
    """
    flat = " ".join(definition.split()).replace("( ", "(").replace(" )", ")")
    flat = re.sub(r'^CREATE TABLE "(\w+)"', r"CREATE TABLE \1", flat)
    if not flat.startswith("CREATE TABLE"):
        return flat
    head, body = flat.split("(", 1)
    depth, clauses = 0, [""]
    for character in body.rsplit(")", 1)[0]:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            clauses.append("")
        else:
            clauses[-1] += character
    return f"{head}({', '.join(sorted(clause.strip() for clause in clauses))})"


def test_the_migrated_schema_is_the_models_schema(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []


def test_the_migrated_schema_is_defined_word_for_word_as_the_models_create_it(
    database: Database, config: Config
) -> None:
    with database.engine.connect() as connection:
        migrated = definitions(connection)
    downgrade(database, config, "base")
    with database.engine.begin() as connection:
        Base.metadata.create_all(connection)
    with database.engine.connect() as connection:
        created = definitions(connection)
    assert migrated == created
    assert any("audit is append-only" in definition for definition in created)
    assert any("ck_retrain_state" in definition for definition in created)


def test_every_migration_leads_back_and_forth_again(database: Database, config: Config) -> None:
    with database.session() as session:
        line = create_line(session, "tiles", detector="patchcore")
        audit.record(session, actor="anna", action="created", line=line)  # even what is append-only goes
    with database.engine.connect() as connection:
        before = definitions(connection)
    for revision in [*reversed(REVISIONS[:-1]), "base"]:
        downgrade(database, config, revision)
    with database.engine.connect() as connection:
        assert definitions(connection) == set()
        assert set(inspect(connection).get_table_names()) <= {VERSION_TABLE}
    database.migrate()
    assert database.revision() == HEAD
    with database.engine.connect() as connection:
        assert definitions(connection) == before


def test_a_migration_that_fails_changes_nothing_and_foreign_keys_hold_again(database: Database) -> None:
    with database.engine.connect() as connection:
        before = definitions(connection)
    with pytest.raises(RuntimeError), database.migration_lock() as connection:
        connection.execute(text("DROP TABLE audit"))
        raise RuntimeError("half way")
    with database.engine.connect() as connection:
        assert definitions(connection) == before
    with pytest.raises(DatabaseError), database.session() as session:
        session.execute(
            text("INSERT INTO alias (line_id, alias, version, since) VALUES (7, 'champion', 1, '2026-01-01')")
        )


def test_the_known_revisions_are_the_scripts_in_their_order(config: Config) -> None:
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    assert tuple(script.revision for script in scripts)[::-1] == REVISIONS
    assert len(SCRIPTS) == len(REVISIONS)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_migration_tells_its_purpose_and_its_way_back_and_imports_no_models(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstring = ast.get_docstring(tree) or ""
    assert "Purpose:" in docstring and "Way back:" in docstring
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert imported <= {"__future__", "alembic", "sqlalchemy"}  # the models move on, a migration does not


def test_a_developer_migrates_and_finds_nothing_to_add_with_alembics_own_command(tmp_path: Path) -> None:
    alembic = [sys.executable, "-m", "alembic", "-c", str(FOLDER / "alembic.ini")]
    address = ["-x", f"database=sqlite:///{tmp_path}/scratch.db"]
    for arguments in (["upgrade", "head"], ["check"], ["downgrade", "base"]):
        done = subprocess.run(
            [*alembic, *address, *arguments], cwd=FOLDER.parent, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
