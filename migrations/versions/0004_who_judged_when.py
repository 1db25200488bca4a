"""Of every score, when it was made and whether its version was only scoring along.

Purpose: history (issue 5): which version judged this part, told also where a night was scored again by a later version
or along by a challenger.
Way back: the downgrade drops the two columns; scores stay, and count as made when the image was photographed.

Revision: 0004, after 0003; written 2026-11-25.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("score", sa.Column("judged_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("score", sa.Column("shadow", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("score") as score:
        score.drop_column("shadow")
        score.drop_column("judged_at")
