"""The jobs that wait to be looked at, in the order in which they should run, also among those that are due alike.

Many jobs of a lock that were deferred at once are looked at in steps. A worker written for p0002 runs on; it looks
at them in whatever order they are stored.

Revision ID: procrastinate_0003
Revises: procrastinate_0002
"""

from __future__ import annotations

from alembic import op

revision = "procrastinate_0003"
down_revision = "procrastinate_0002"
branch_labels = None
depends_on = None

_CREATE = (
    "CREATE INDEX procrastinate_jobs_upcoming_idx "
    "ON procrastinate_jobs (coalesce(scheduled_at, '-infinity'\\:\\:timestamptz){rest}) "
    "WHERE status = 'todo' AND readiness = 0 AND (scheduled_at IS NOT NULL OR lock IS NOT NULL)"
)


def upgrade() -> None:
    op.execute("DROP INDEX procrastinate_jobs_upcoming_idx")
    op.execute(_CREATE.format(rest=", priority DESC, id"))


def downgrade() -> None:
    op.execute("DROP INDEX procrastinate_jobs_upcoming_idx")
    op.execute(_CREATE.format(rest=""))
