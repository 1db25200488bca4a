"""Six more covariates of a score: scale, the light's gradients and colour, and what the finest detail looks like.

Purpose: attribution (issue 3): a camera that moved closer, a lamp that lights one side or turned yellow, motion blur, dead pixels.
Way back: the downgrade drops the six columns and what was measured in them; scores and verdicts stay.

Revision: 0002, after 0001; written 2026-11-24.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ADDED = ("scale", "gradient_x", "gradient_y", "warmth", "speckle", "grain_direction")


def upgrade() -> None:
    for name in ADDED:
        op.add_column("score", sa.Column(name, sa.Double(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("score") as score:
        for name in reversed(ADDED):
            score.drop_column(name)
