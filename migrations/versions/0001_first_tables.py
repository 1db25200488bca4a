"""The first tables: lines, versions and aliases, images and scores, checks, retrains, alerts, audit.

Purpose: everything that issue 2's closed loop records, with once-only held by UNIQUE constraints and an audit
that triggers keep append-only.
Way back: the downgrade drops every table and all that is in them; make a backup first (there is no
other record of labels, scores and audit; the versions themselves stay in MLflow).

Revision: 0001, the first; written 2026-11-24.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

AUDIT_TRIGGERS = {
    "sqlite": (
        "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END",
        "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END",
        "CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit "
        "WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE "
        "EXCEPTION 'audit is append-only' USING ERRCODE = 'restrict_violation'; END $$",
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE "
        "FUNCTION audit_append_only()",
        "CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE "
        "FUNCTION audit_append_only()",
    ),
}


def upgrade() -> None:
    op.create_table(
        "line",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("time_zone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("detector", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), server_default="auto", nullable=False),
        sa.Column("fpr_budget", sa.Double(), server_default="0.01", nullable=False),
        sa.Column("latency_budget_ms", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("policy IN ('auto', 'manual', 'shadow')", name=op.f("ck_line_policy")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_line")),
        sa.UniqueConstraint("name", name=op.f("uq_line_name")),
    )
    op.create_table(
        "alert",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("dedup_key", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("pending_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'dead')", name=op.f("ck_alert_state")),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_alert_line_id_line")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert")),
        sa.UniqueConstraint("dedup_key", name=op.f("uq_alert_dedup_key")),
        sa.UniqueConstraint("message_id", name=op.f("uq_alert_message_id")),
    )
    op.create_index("ix_alert_state_next_attempt_at", "alert", ["state", "next_attempt_at"], unique=False)
    op.create_table(
        "alias",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("alias IN ('champion', 'challenger', 'previous')", name=op.f("ck_alias_alias")),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_alias_line_id_line")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alias")),
        sa.UniqueConstraint("line_id", "alias", name=op.f("uq_alias_line_id_alias")),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_audit_line_id_line")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_line_id_at", "audit", ["line_id", "at"], unique=False)
    op.create_table(
        "image",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("labelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("kept_path", sa.Text(), nullable=True),
        sa.CheckConstraint("label IN ('good', 'defect')", name=op.f("ck_image_label")),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_image_line_id_line")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image")),
        sa.UniqueConstraint("line_id", "sha256", name=op.f("uq_image_line_id_sha256")),
    )
    op.create_index("ix_image_line_id_label", "image", ["line_id", "label"], unique=False)
    op.create_index("ix_image_line_id_path", "image", ["line_id", "path"], unique=False)
    op.create_table(
        "night_check",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "verdict IN ('insufficient', 'stable', 'warning', 'drift', 'defect_burst', 'sensor_fault')",
            name=op.f("ck_night_check_verdict"),
        ),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_night_check_line_id_line")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_night_check")),
        sa.UniqueConstraint("line_id", "version", "night", name=op.f("uq_night_check_line_id_version_night")),
    )
    op.create_table(
        "retrain",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("base_version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("new_version", sa.Integer(), nullable=True),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('requested', 'curated', 'fitted', 'gated', 'registered', "
            "'promoted', 'waiting', 'rejected', 'failed')",
            name=op.f("ck_retrain_state"),
        ),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_retrain_line_id_line")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retrain")),
        sa.UniqueConstraint("line_id", "night", "base_version", name=op.f("uq_retrain_line_id_night_base_version")),
    )
    op.create_table(
        "score",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_order", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("captured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("rejected", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("brightness", sa.Double(), nullable=True),
        sa.Column("contrast", sa.Double(), nullable=True),
        sa.Column("sharpness", sa.Double(), nullable=True),
        sa.Column("noise", sa.Double(), nullable=True),
        sa.Column("offset_x", sa.Double(), nullable=True),
        sa.Column("offset_y", sa.Double(), nullable=True),
        sa.Column("rotation", sa.Double(), nullable=True),
        sa.Column("saturation", sa.Double(), nullable=True),
        sa.Column("width", sa.Double(), nullable=True),
        sa.Column("height", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_score_line_id_line")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_score")),
        sa.UniqueConstraint("line_id", "version", "sha256", "captured_at", "name", name="uq_score_once"),
    )
    op.create_index(
        "ix_score_capture_order",
        "score",
        ["line_id", "version", "night", "captured_at", "name_order"],
        unique=False,
    )
    op.create_table(
        "unreadable",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_unreadable_line_id_line")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unreadable")),
        sa.UniqueConstraint("line_id", "night", "name", name=op.f("uq_unreadable_line_id_night_name")),
    )
    op.create_table(
        "version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("detector", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("mean_ref", sa.Double(), nullable=False),
        sa.Column("sd_ref", sa.Double(), nullable=False),
        sa.Column("n_reference", sa.Integer(), nullable=False),
        sa.Column("reference", sa.JSON(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("base_version", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("origin IN ('fit', 'retrain', 'foreign')", name=op.f("ck_version_origin")),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_version_line_id_line")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_version")),
        sa.UniqueConstraint("line_id", "number", name=op.f("uq_version_line_id_number")),
    )
    for statement in AUDIT_TRIGGERS[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("version")
    op.drop_table("unreadable")
    op.drop_index("ix_score_capture_order", table_name="score")
    op.drop_table("score")
    op.drop_table("retrain")
    op.drop_table("night_check")
    op.drop_index("ix_image_line_id_path", table_name="image")
    op.drop_index("ix_image_line_id_label", table_name="image")
    op.drop_table("image")
    op.drop_index("ix_audit_line_id_at", table_name="audit")
    op.drop_table("audit")
    op.drop_table("alias")
    op.drop_index("ix_alert_state_next_attempt_at", table_name="alert")
    op.drop_table("alert")
    op.drop_table("line")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_append_only()")
