"""A line's nights in shadow and on probation, its retrains' cool-down and budget; and the retrain's state ``shadow``.

Purpose: policy ``shadow`` and what follows a promotion (issue 5): a challenger scores along before it is promoted, a new
champion is watched after it, and a line that drifts every night is reported instead of retrained every night.
Way back: the downgrade drops the settings; a retrain in shadow becomes one that waits for a person.

Revision: 0006, after 0005; written 2026-11-25.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ADDED = {"shadow_nights": "3", "probation_nights": "5", "cooldown_nights": "2", "retrain_budget": "5"}
BEFORE = ("requested", "curated", "fitted", "gated", "registered", "promoted", "waiting", "rejected", "failed")
AFTER = (*BEFORE[:5], "shadow", *BEFORE[5:])


def upgrade() -> None:
    for name, default in ADDED.items():
        op.add_column("line", sa.Column(name, sa.Integer(), server_default=default, nullable=False))
    _allow(AFTER)


def downgrade() -> None:
    op.execute("UPDATE retrain SET state = 'waiting' WHERE state = 'shadow'")
    _allow(BEFORE)
    with op.batch_alter_table("line") as line:
        for name in reversed(ADDED):
            line.drop_column(name)


def _allow(states: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{state}'" for state in states)
    with op.batch_alter_table("retrain") as retrain:
        retrain.drop_constraint(op.f("ck_retrain_state"), type_="check")
        retrain.create_check_constraint(op.f("ck_retrain_state"), f"state IN ({listed})")
