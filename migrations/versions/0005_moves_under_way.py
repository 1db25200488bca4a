"""A table of the moves of a champion's alias that are under way: at most one a line.

Purpose: promotion races (issue 5): of two promoters at once one wins and the other is told, and a promotion that was
killed after it moved the alias is recorded as whose it was.
Way back: the downgrade drops the table; a promotion that was killed half way is then recorded as somebody's in MLflow.

Revision: 0005, after 0004; written 2026-11-25.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pending_move",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("from_version", sa.Integer(), nullable=True),
        sa.Column("to_version", sa.Integer(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("action IN ('promoted', 'rolled_back')", name=op.f("ck_pending_move_action")),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_pending_move_line_id_line")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pending_move")),
        sa.UniqueConstraint("line_id", name=op.f("uq_pending_move_line_id")),
    )


def downgrade() -> None:
    op.drop_table("pending_move")
