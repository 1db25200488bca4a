"""A table of what each night was reduced to: the check of a night then reads no older night again.

Purpose: the check at scale (issue 3): thirty nights of history a line must not cost thirty times the reading.
Way back: the downgrade drops the table; the next check makes its rows again from the scores.

Revision: 0003, after 0002; written 2026-11-24.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "night_summary",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("log_revision", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_night_summary_line_id_line")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_night_summary")),
        sa.UniqueConstraint("line_id", "version", "night", name=op.f("uq_night_summary_line_id_version_night")),
    )


def downgrade() -> None:
    op.drop_table("night_summary")
