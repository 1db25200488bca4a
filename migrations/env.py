"""How Alembic runs here: on a given connection, in that connection's transaction, one process at a time.

``registry.database`` passes a connection that already holds the migration lock; a developer at the command
line passes ``-x database=URL`` instead.
"""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection, DateTime

from migrations import VERSION_TABLE
from registry.columns import Document, UtcDateTime
from registry.tables import Base


def render_item(kind: str, item: Any, autogen_context: Any) -> str | Literal[False]:
    """Migrations name plain types: they must not change when ``registry.tables`` does."""
    if kind == "type" and isinstance(item, UtcDateTime | DateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, Document):
        return "sa.JSON()"
    return False


def include_name(name: str | None, kind: str, parents: Any) -> bool:
    """Tables of others in the same database (MLflow's, Prefect's) are no business of ours."""
    return kind != "table" or name in Base.metadata.tables


def run(connection: Connection) -> None:
    """Run what Alembic was asked for, in the connection's own transaction."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        render_item=render_item,
        include_name=include_name,
        transactional_ddl=True,
        render_as_batch=connection.dialect.name == "sqlite",  # what SQLite cannot alter is made anew
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    from registry.database import Database

    url = context.get_x_argument(as_dictionary=True).get("database")
    if not url:
        raise SystemExit("say which database: alembic -c migrations/alembic.ini -x database=URL …")
    database = Database(url)
    with database.migration_lock() as connection:
        run(connection)
    database.close()
