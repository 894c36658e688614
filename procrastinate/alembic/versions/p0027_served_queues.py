"""Triggers give no slot to jobs of a queue that no worker serves, or above a limit that was lowered.

A job that ended handed its slot to the next job in line, whatever its queue. If no worker served that queue, the job
kept the slot, and the jobs of other queues behind it waited. Now such a job is left to an admission, which parks it and
gives the slot to the next one.

A worker that stops releases the jobs that it has not started, and they keep their slots. If the limit was lowered while
it had them, more jobs had slots than the new number allows, and other workers started them. Now such jobs get in line.

Jobs without a limit get what they got before. A worker written for p0026 still gives slots to such jobs. The sweep of a
worker of this release takes them back.

Revision ID: procrastinate_0027
Revises: procrastinate_0026
"""

from __future__ import annotations

from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0026_undefined_limits as former

revision = "procrastinate_0027"
down_revision = "procrastinate_0026"
branch_labels = None
depends_on = None

# Called from the triggers, with their search path. A role that may not read the workers hands over as before.
IS_SERVED = """
CREATE FUNCTION procrastinate_is_served(queue_name text) RETURNS boolean
LANGUAGE plpgsql STABLE
AS $function$
BEGIN
    IF NOT has_table_privilege('procrastinate_workers', 'SELECT') THEN
        RETURN true;
    END IF;
    RETURN coalesce((
        SELECT bool_or(coalesce(cardinality(worker.queues), 0) = 0 OR queue_name = ANY (worker.queues))
        FROM procrastinate_workers AS worker
        WHERE worker.state IS DISTINCT FROM 'draining'
    ), true);
END
$function$
"""

HAND_OVER = replaced(
    former.HAND_OVER,
    (
        "SELECT waiting.id, waiting.lock, waiting.priority, greatest(waiting.limit_weight, 1) AS weight\n",
        "SELECT\n"
        "                waiting.id, waiting.lock, waiting.priority, waiting.queue_name,\n"
        "                greatest(waiting.limit_weight, 1) AS weight\n",
    ),
    (
        " <= room.free\n                AS fits\n",
        " <= room.free\n                AND procrastinate_is_served(line.queue_name) AS fits\n",
    ),
)

_HELD = """SELECT sum(greatest(holder.limit_weight, 1))
                        FROM procrastinate_jobs AS holder
                        WHERE holder.limit_name IS NOT NULL
                            AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                            AND holder.limit_name = job.limit_name"""
_IS_EXCEEDED = f"""EXISTS (
                SELECT FROM procrastinate_limits AS defined
                WHERE defined.name = job.limit_name AND (
                    coalesce(defined.set_concurrency, defined.concurrency) < (
                        {_HELD} AND holder.limit_key = job.limit_key
                    )
                    OR coalesce(defined.set_total, defined.total) < (
                        {_HELD}
                    )
                )
            )"""

# The limit was lowered while the worker had the jobs, and another worker could start them.
JOBS_UPDATED = replaced(
    former.JOBS_UPDATED,
    ("WHERE job.id = ANY (returned) AND (", f"WHERE job.id = ANY (returned) AND (\n            {_IS_EXCEEDED} OR "),
)


def upgrade() -> None:
    for statement in (IS_SERVED, HAND_OVER, JOBS_UPDATED):
        execute_as_written(statement)


def downgrade() -> None:
    for statement in (former.HAND_OVER, former.JOBS_UPDATED):
        execute_as_written(replaced(statement))
    execute_as_written("DROP FUNCTION procrastinate_is_served(text)")
