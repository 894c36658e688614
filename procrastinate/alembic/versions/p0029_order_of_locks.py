"""Jobs of a lock run in their order, also if one of them waits again or leaves without the lock.

A promotion looks at some jobs of a lock while others are parked. In two cases, the trigger took a parked job out
without giving it the lock at once. If the holder ended before the next promotion, the job behind it got the lock.

- A job waits again as it did before its run: its worker died, its worker releases it with its lock, or plain SQL sends
  it back. It comes before the parked jobs, so they stay parked, and a promotion compares it with them. A retry gets a
  new time, and lets later jobs go first.
- A job that waits without the lock is cancelled or moved, while another one holds the lock. A promotion may have left
  this job undecided, to look again later. Now the last parked job is taken out in its place, and not the first.

Workers written for the revision before promote these jobs in the same way.

Revision ID: procrastinate_0029
Revises: procrastinate_0028
"""

from __future__ import annotations

from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0026_undefined_limits as twenty_sixth
from procrastinate.alembic.versions import p0028_simple_updates as former

revision = "procrastinate_0029"
down_revision = "procrastinate_0028"
branch_labels = None
depends_on = None

# A job with a limit gets in line for a slot before its lock is looked at, so it holds up no other.
_WAITS_AGAIN = """(
                        was.status = 'doing' AND job.status = 'todo' AND job.readiness IN (0, 1)
                        AND job.limit_name IS NULL
                        AND job.lock IS NOT DISTINCT FROM was.lock
                        AND job.scheduled_at IS NOT DISTINCT FROM was.scheduled_at
                        AND (job.scheduled_at IS NULL OR job.scheduled_at <= now())
                    )"""

WITHOUT_RETURNS = (
    """                        OR job.scheduled_at IS DISTINCT FROM was.scheduled_at
                    )
                THEN was.lock""",
    f"""                        OR job.scheduled_at IS DISTINCT FROM was.scheduled_at
                    )
                    AND NOT {_WAITS_AGAIN}
                THEN was.lock""",
)
JOBS_UPDATED = replaced(former.JOBS_UPDATED, WITHOUT_RETURNS)


def _parked(condition: str, order: str) -> str:
    """Return the first parked job of a lock in an order. A part of a union may not lock rows, and a subquery may."""
    return f"""SELECT parked.id
                FROM (
                    SELECT waiting.id
                    FROM procrastinate_jobs AS waiting
                    WHERE {condition}
                        AND waiting.lock = freed.lock AND waiting.status = 'todo' AND waiting.readiness = 2
                    ORDER BY {order}
                    LIMIT 1
                    FOR UPDATE SKIP LOCKED
                ) AS parked"""  # noqa: S608


# OFFSET 0 looks for the holder once. While an old transaction is open, each look passes all former holders.
LEAVE = replaced(
    twenty_sixth.LEAVE,
    (
        """AND NOT EXISTS (
                    SELECT FROM procrastinate_jobs AS holder
                    WHERE holder.lock = job.lock
                        AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                )
                THEN 1 ELSE 0""",
        """AND NOT of_lock.is_held
                THEN 1 ELSE 0""",
    ),
    (
        """            CROSS JOIN LATERAL (
                SELECT waiting.id
                FROM procrastinate_jobs AS waiting
                WHERE waiting.lock = freed.lock AND waiting.status = 'todo' AND waiting.readiness = 2
                ORDER BY waiting.priority DESC, waiting.id
                LIMIT 1
                FOR UPDATE SKIP LOCKED
            ) AS next
""",
        f"""            CROSS JOIN LATERAL (
                SELECT EXISTS (
                    SELECT FROM procrastinate_jobs AS holder
                    WHERE holder.lock = freed.lock
                        AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                ) AS is_held
                OFFSET 0
            ) AS of_lock
            CROSS JOIN LATERAL (
                {_parked("NOT of_lock.is_held", "waiting.priority DESC, waiting.id")}
                UNION ALL
                {_parked("of_lock.is_held", "waiting.priority, waiting.id DESC")}
            ) AS next
""",  # noqa: S608
    ),
)


def upgrade() -> None:
    for statement in (LEAVE, JOBS_UPDATED):
        execute_as_written(statement)


def downgrade() -> None:
    for statement in (twenty_sixth.LEAVE, former.JOBS_UPDATED):
        execute_as_written(replaced(statement))
