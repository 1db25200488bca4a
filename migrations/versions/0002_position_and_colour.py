"""Four more covariates of a score: scale, the light's gradients, and the colour of the light.

Purpose: attribution (issue 3): a camera that moved closer, a lamp that lights one side, a lamp that turned yellow.
Way back: the downgrade drops the four columns and what was measured in them; scores and verdicts stay.

Revision: 0002, after 0001; written 2026-11-24.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ADDED = ("scale", "gradient_x", "gradient_y", "warmth")


def upgrade() -> None:
    for name in ADDED:
        op.add_column("score", sa.Column(name, sa.Double(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("score") as score:
        for name in reversed(ADDED):
            score.drop_column(name)
