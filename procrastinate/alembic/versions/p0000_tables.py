"""The types and the tables that Procrastinate 3.x has, without its functions and triggers.

A database of 3.x has them already, and :mod:`procrastinate.alembic.adoption` goes on from there. Users' own tables may
refer to these.

Revision ID: procrastinate_0000
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "procrastinate_0000"
down_revision = None
branch_labels = ("procrastinate",)
depends_on = None

job_status = postgresql.ENUM(
    "todo",
    "doing",
    "succeeded",
    "failed",
    "cancelled",
    "aborting",
    "aborted",
    name="procrastinate_job_status",
    create_type=False,
)
job_event_type = postgresql.ENUM(
    "deferred",
    "started",
    "deferred_for_retry",
    "failed",
    "succeeded",
    "cancelled",
    "abort_requested",
    "aborted",
    "scheduled",
    "retried",
    name="procrastinate_job_event_type",
    create_type=False,
)


def upgrade() -> None:
    op.execute(f"CREATE TYPE procrastinate_job_status AS ENUM ({_quoted(job_status)})")
    op.execute(f"CREATE TYPE procrastinate_job_event_type AS ENUM ({_quoted(job_event_type)})")
    _create_jobs()
    op.create_table(
        "procrastinate_events",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("job_id", sa.BigInteger, nullable=False),
        sa.Column("type", job_event_type),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()")),
    )
    op.create_table(
        "procrastinate_periodic_defers",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("task_name", sa.String(128), nullable=False),
        sa.Column("defer_timestamp", sa.BigInteger),
        sa.Column("job_id", sa.BigInteger),
        sa.Column("periodic_id", sa.String(128), nullable=False, server_default=sa.text("''")),
        sa.UniqueConstraint("task_name", "periodic_id", "defer_timestamp", name="procrastinate_periodic_defers_unique"),
    )
    op.create_table(
        "procrastinate_workers",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("last_heartbeat", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    )


def _quoted(enum: postgresql.ENUM) -> str:
    return ", ".join(f"'{value}'" for value in enum.enums)


def _create_jobs() -> None:
    op.create_table(
        "procrastinate_jobs",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("queue_name", sa.String(128), nullable=False),
        sa.Column("task_name", sa.String(128), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("lock", sa.Text),
        sa.Column("queueing_lock", sa.Text),
        sa.Column("args", postgresql.JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("status", job_status, nullable=False, server_default=sa.text("'todo'")),
        sa.Column("scheduled_at", sa.DateTime(timezone=True)),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("abort_requested", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("worker_id", sa.BigInteger),
        sa.CheckConstraint("NOT (status = 'todo' AND abort_requested)", name="procrastinate_jobs_todo_not_aborted"),
    )


def downgrade() -> None:
    for table in ("workers", "periodic_defers", "events", "jobs"):
        op.drop_table(f"procrastinate_{table}")
    op.execute("DROP TYPE procrastinate_job_event_type")
    op.execute("DROP TYPE procrastinate_job_status")
