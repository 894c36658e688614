"""A job that waits again comes before the jobs behind it in its lock.

A job whose worker died, that is tried again at once, or that plain SQL sends back, is due as soon as it waits. The
trigger handed its lock to the next job, which could start first. Now the next job is looked at together with the one
that came back, and a promotion gives the lock to the first of them. Jobs that wait for a later time hand their locks on
at once, as before.

Workers written for the revision before promote these jobs in the same way.

Revision ID: procrastinate_0029
Revises: procrastinate_0028
"""

from __future__ import annotations

from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0028_simple_updates as former

revision = "procrastinate_0029"
down_revision = "procrastinate_0028"
branch_labels = None
depends_on = None

# A job with a limit gets in line for a slot before its lock is looked at, so it holds up no other.
_IS_BACK = """job.status = 'todo' AND job.readiness = 0 AND job.limit_name IS NULL
                AND job.lock IS NOT DISTINCT FROM was.lock
                AND (job.scheduled_at IS NULL OR job.scheduled_at <= now()) AS is_back"""

JOBS_UPDATED = replaced(
    former.JOBS_UPDATED,
    (
        "            job.status <> was.status AS is_moved,\n",
        f"            job.status <> was.status AS is_moved,\n            {_IS_BACK},\n",
    ),
    (
        "array_agg(DISTINCT released_lock) FILTER (WHERE was_holder),",
        "array_agg(DISTINCT released_lock) FILTER (WHERE was_holder AND NOT is_back),",
    ),
)


def upgrade() -> None:
    execute_as_written(JOBS_UPDATED)


def downgrade() -> None:
    execute_as_written(replaced(former.JOBS_UPDATED))
