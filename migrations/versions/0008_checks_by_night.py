"""An index on the night of checks.

Purpose: one line's check reads the others of that night, whose p-values are corrected together; a thousand lines over a year
keep some hundred thousand checks.
Way back: the downgrade drops the index; nothing else is touched.

Revision: 0008, after 0007; written 2026-11-28.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_night_check_night", "night_check", ["night"])


def downgrade() -> None:
    op.drop_index("ix_night_check_night", table_name="night_check")
