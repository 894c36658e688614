"""Triggers give no slot that its limit does not have.

A limit has no row, or no numbers, until a worker defines it, for example after a TRUNCATE of the limits. A job that
left such a limit handed its slot to the next job in line, as if the limit had room for all. No rate counted the start
of that job. Now its jobs wait, and the starts of those that have slots count.

Jobs without a limit get what they got before. A worker written for p0025 sees no difference.

Revision ID: procrastinate_0026
Revises: procrastinate_0025
"""

from __future__ import annotations

from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0015_rates as fifteenth
from procrastinate.alembic.versions import p0025_weights_of_one as former

revision = "procrastinate_0026"
down_revision = "procrastinate_0025"
branch_labels = None
depends_on = None

# A limit may have a rate if it has one, or if it is not defined.
_MAY_HAVE_RATE = f"""NOT EXISTS (
                SELECT FROM procrastinate_limits AS defined
                WHERE defined.name = job.limit_name
                    AND NOT ({fifteenth.HAS_RATE})
                    AND coalesce(
                        defined.set_concurrency, defined.concurrency, defined.set_total, defined.total,
                        defined.fair::integer
                    ) IS NOT NULL
            )"""

# Without a number of its own, the limit has one of another kind, or none at all.
HAND_OVER = replaced(
    former.HAND_OVER,
    (
        "WHEN total.number IS NULL AND NOT may_be_paused\n",
        "WHEN total.number IS NULL AND own.number IS NOT NULL AND NOT may_be_paused\n",
    ),
)

# A job has got its slot when the limit was defined, so the limit may have had a rate that must count the start.
JOBS_UPDATED = replaced(
    former.JOBS_UPDATED,
    (
        f"""        JOIN procrastinate_limits AS defined ON defined.name = job.limit_name
        WHERE (was.status, job.status) = ('todo', 'doing') AND {fifteenth.HAS_RATE};
""",
        f"""        WHERE job.limit_name IS NOT NULL AND (was.status, job.status) = ('todo', 'doing')
            AND {_MAY_HAVE_RATE};
""",
    ),
    (
        f"""        FROM procrastinate_limits AS defined
        WHERE job.id = ANY (returned) AND defined.name = job.limit_name AND ({fifteenth.HAS_RATE} OR""",
        f"""        WHERE job.id = ANY (returned) AND ({_MAY_HAVE_RATE} OR""",
    ),
)

FORMER = (former.HAND_OVER, former.JOBS_UPDATED)


def upgrade() -> None:
    for statement in (HAND_OVER, JOBS_UPDATED):
        execute_as_written(statement)


def downgrade() -> None:
    for statement in FORMER:
        execute_as_written(replaced(statement))
