"""The schema's history (Alembic), shipped as a package so that a wheel can migrate as a checkout can.

``registry.database`` reads ``REVISIONS`` to tell an older schema (upgrade it) from a newer one (refuse),
without importing Alembic; a test holds that the list is the scripts' own order. To add a migration::

    alembic="alembic -c migrations/alembic.ini -x database=sqlite:////tmp/scratch.db"
    $alembic upgrade head
    $alembic revision --autogenerate --rev-id NEXT_NUMBER -m "what it does"

then write its purpose and its way back, and append its number here.
"""

from __future__ import annotations

REVISIONS: tuple[str, ...] = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008")
"""Every revision, oldest first; the last one is the schema this code works with."""

HEAD = REVISIONS[-1]

VERSION_TABLE = "halfsigma_schema"
"""Not Alembic's default name: MLflow and Prefect use that one, and may live in the same database."""
