"""The tables, as typed models; the migrations end at the same schema, and a test proves it.

Once-only is the database's business: every fact that may be told twice has a UNIQUE constraint, and the
repositories insert with ``ON CONFLICT``. States and labels are text under a CHECK, not database enums: a new
state is then an ordinary migration on SQLite and PostgreSQL alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, ClassVar, cast

from sqlalchemy import (
    DDL,
    Date,
    Double,
    ForeignKey,
    Index,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from registry.columns import BigId, Document, NaturalOrder, UtcDateTime, one_of

POLICIES = ("auto", "manual", "shadow")
ALIASES = ("champion", "challenger", "previous")
ORIGINS = ("fit", "retrain", "foreign")
MOVES = ("promoted", "rolled_back")
LABELS = ("good", "defect")
VERDICTS = ("insufficient", "stable", "warning", "drift", "defect_burst", "sensor_fault")
RETRAIN_STATES = (
    "requested",
    "curated",
    "fitted",
    "gated",
    "registered",
    "shadow",
    "promoted",
    "waiting",
    "rejected",
    "failed",
)
ALERT_STATES = ("pending", "delivered", "dead")

COVARIATES = (
    "brightness",
    "contrast",
    "sharpness",
    "noise",
    "offset_x",
    "offset_y",
    "rotation",
    "saturation",
    "width",
    "height",
    "scale",
    "gradient_x",
    "gradient_y",
    "warmth",
    "speckle",
    "grain_direction",
)
"""The covariate columns of a score, named and ordered as ``detectors/photographs/covariates.py`` names them."""

LINE_NAME_CHARS = 64
KIND_CHARS = 64
SHA256_CHARS = 64  # hexadecimal


class Base(DeclarativeBase):
    """Every constraint has a name by convention, so that a migration can find it on either database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        date: Date,
        float: Double,
        dict[str, Any]: Document,
        str: Text,
    }


def table_of(model: type[Base]) -> Table:
    """The Core table of a model."""
    return cast(Table, model.__table__)


class Line(Base):
    """One camera station and the part it looks at."""

    __tablename__ = "line"
    __table_args__ = (one_of("policy", POLICIES),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(LINE_NAME_CHARS), unique=True)
    time_zone: Mapped[str] = mapped_column(server_default="UTC")
    detector: Mapped[str]
    policy: Mapped[str] = mapped_column(server_default="auto")
    fpr_budget: Mapped[float] = mapped_column(server_default="0.01")
    latency_budget_ms: Mapped[float | None]
    shadow_nights: Mapped[int] = mapped_column(server_default="3")
    probation_nights: Mapped[int] = mapped_column(server_default="5")
    cooldown_nights: Mapped[int] = mapped_column(server_default="2")
    retrain_budget: Mapped[int] = mapped_column(server_default="5")
    approvals: Mapped[int] = mapped_column(server_default="1")
    min_labels: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime]


class Version(Base):
    """A fitted detector, mirrored from MLflow, with its reference: a check needs no MLflow."""

    __tablename__ = "version"
    __table_args__ = (UniqueConstraint("line_id", "number"), one_of("origin", ORIGINS))

    id: Mapped[int] = mapped_column(primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("line.id"))
    number: Mapped[int]
    detector: Mapped[str]
    threshold: Mapped[float]
    mean_ref: Mapped[float]
    sd_ref: Mapped[float]
    n_reference: Mapped[int]
    reference: Mapped[dict[str, Any]] = mapped_column(deferred=True)  # some 100 kB: only on demand
    origin: Mapped[str]
    base_version: Mapped[int | None]
    created_at: Mapped[datetime]


class Alias(Base):
    """Which version carries an alias, mirrored from MLflow (the truth); no foreign key: it follows it."""

    __tablename__ = "alias"
    __table_args__ = (UniqueConstraint("line_id", "alias"), one_of("alias", ALIASES))

    id: Mapped[int] = mapped_column(primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("line.id"))
    alias: Mapped[str]
    version: Mapped[int]
    since: Mapped[datetime]


class PendingMove(Base):
    """A move of the champion's alias that is under way, at most one a line; see registry/moves.py."""

    __tablename__ = "pending_move"
    __table_args__ = (one_of("action", MOVES),)

    id: Mapped[int] = mapped_column(primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("line.id"), unique=True)
    token: Mapped[str]
    action: Mapped[str]
    from_version: Mapped[int | None]
    to_version: Mapped[int]
    actor: Mapped[str]
    document: Mapped[dict[str, Any]]
    until: Mapped[datetime]


class Image(Base):
    """An image the line has seen, by its content; where it lay last, and what a person said of it."""

    __tablename__ = "image"
    __table_args__ = (
        UniqueConstraint("line_id", "sha256"),
        one_of("label", LABELS),
        Index("ix_image_line_id_path", "line_id", "path"),
        Index("ix_image_line_id_label", "line_id", "label"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("line.id"))
    sha256: Mapped[str] = mapped_column(String(SHA256_CHARS))
    path: Mapped[str]
    label: Mapped[str | None]
    labelled_at: Mapped[datetime | None]
    kind: Mapped[str | None] = mapped_column(String(KIND_CHARS))
    kept_path: Mapped[str | None]


class Score(Base):
    """One image scored once by one version; see docs/decisions/score-identity.md for what "once" means."""

    __tablename__ = "score"
    __table_args__ = (
        UniqueConstraint("line_id", "version", "sha256", "captured_at", "name", name="uq_score_once"),
        Index("ix_score_capture_order", "line_id", "version", "night", "captured_at", "name_order"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("line.id"))
    version: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(SHA256_CHARS))
    name: Mapped[str]
    name_order: Mapped[str] = mapped_column(NaturalOrder)
    captured_at: Mapped[datetime]
    night: Mapped[date]
    score: Mapped[float]
    rejected: Mapped[bool] = mapped_column(server_default=false())
    judged_at: Mapped[datetime | None]  # None: when it was photographed
    shadow: Mapped[bool] = mapped_column(server_default=false())  # scored along by a challenger
    brightness: Mapped[float | None]
    contrast: Mapped[float | None]
    sharpness: Mapped[float | None]
    noise: Mapped[float | None]
    offset_x: Mapped[float | None]
    offset_y: Mapped[float | None]
    rotation: Mapped[float | None]
    saturation: Mapped[float | None]
    width: Mapped[float | None]
    height: Mapped[float | None]
    scale: Mapped[float | None]
    gradient_x: Mapped[float | None]
    gradient_y: Mapped[float | None]
    warmth: Mapped[float | None]
    speckle: Mapped[float | None]
    grain_direction: Mapped[float | None]


class Unreadable(Base):
    """An image of a night that could not be read, and why."""

    __tablename__ = "unreadable"
    __table_args__ = (UniqueConstraint("line_id", "night", "name"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("line.id"))
    night: Mapped[date]
    name: Mapped[str]
    reason: Mapped[str]


class NightCheck(Base):
    """The verdict of one night on one version; checking again replaces it."""

    __tablename__ = "night_check"
    __table_args__ = (
        UniqueConstraint("line_id", "version", "night"),
        one_of("verdict", VERDICTS),
        Index("ix_night_check_night", "night"),  # all lines of a night are corrected together
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("line.id"))
    version: Mapped[int]
    night: Mapped[date]
    verdict: Mapped[str]
    document: Mapped[dict[str, Any]]
    checked_at: Mapped[datetime]


class NightSummary(Base):
    """What the nights after it need of a night; ``key`` is NULL after scores were added, see registry/summaries.py."""

    __tablename__ = "night_summary"
    __table_args__ = (UniqueConstraint("line_id", "version", "night"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("line.id"))
    version: Mapped[int]
    night: Mapped[date]
    log_revision: Mapped[int]
    key: Mapped[str | None]
    document: Mapped[dict[str, Any]]


class Retrain(Base):
    """One attempt to replace a version after a night; its state moves only along ``retrains.TRANSITIONS``."""

    __tablename__ = "retrain"
    __table_args__ = (UniqueConstraint("line_id", "night", "base_version"), one_of("state", RETRAIN_STATES))

    id: Mapped[int] = mapped_column(primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("line.id"))
    night: Mapped[date]
    base_version: Mapped[int]
    state: Mapped[str]
    new_version: Mapped[int | None]
    document: Mapped[dict[str, Any]]
    reason: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Alert(Base):
    """The transactional outbox: written with what it tells of, delivered afterwards."""

    __tablename__ = "alert"
    __table_args__ = (
        one_of("state", ALERT_STATES),
        Index("ix_alert_state_next_attempt_at", "state", "next_attempt_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    line_id: Mapped[int | None] = mapped_column(ForeignKey("line.id"))
    kind: Mapped[str]
    dedup_key: Mapped[str] = mapped_column(unique=True)
    message_id: Mapped[str] = mapped_column(unique=True)  # webhook-id: the same on every attempt
    payload: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(server_default="pending")
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime]  # while someone is sending: the end of the lease
    created_at: Mapped[datetime]
    pending_since: Mapped[datetime]  # dead-lettering counts from here; a replay sets it again
    delivered_at: Mapped[datetime | None]
    last_error: Mapped[str | None]


class Audit(Base):
    """Who did what to a line, when and why. Append-only: triggers refuse UPDATE and DELETE."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_line_id_at", "line_id", "at"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    at: Mapped[datetime]
    line_id: Mapped[int | None] = mapped_column(ForeignKey("line.id"))
    actor: Mapped[str]
    action: Mapped[str]
    version: Mapped[int | None]
    document: Mapped[dict[str, Any]]


AUDIT_TRIGGERS: Mapping[str, tuple[str, ...]] = {
    "sqlite": (
        "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END",
        "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END",
        # INSERT OR REPLACE deletes without firing the DELETE trigger
        "CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit "
        "WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id) "
        "BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'audit is append-only' USING ERRCODE = 'restrict_violation'; END $$",
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION audit_append_only()",
        "CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()",
    ),
}
_ddl = cast(Callable[[str], DDL], DDL)  # untyped in SQLAlchemy
for _dialect, _statements in AUDIT_TRIGGERS.items():
    for _statement in _statements:
        event.listen(Audit.__table__, "after_create", _ddl(_statement).execute_if(dialect=_dialect))
