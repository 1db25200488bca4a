"""A labelled defect's kind; how many people a line's promotion needs, and how many labels its gates.

Purpose: gates that a quality manager signs (issue 5): a rare kind of defect cannot be forgotten silently, two people
promote where a line asks for two.
Way back: the downgrade drops the three columns; labels and what was promoted stay.

Revision: 0007, after 0006; written 2026-11-25.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ADDED = {"approvals": "1", "min_labels": "0"}


def upgrade() -> None:
    for name, default in ADDED.items():
        op.add_column("line", sa.Column(name, sa.Integer(), server_default=default, nullable=False))
    op.add_column("image", sa.Column("kind", sa.String(length=64), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("image") as image:
        image.drop_column("kind")
    with op.batch_alter_table("line") as line:
        for name in reversed(ADDED):
            line.drop_column(name)
