"""Triggers give no slot to a job of a queue that no worker serves.

A job that ended handed its slot to the next job in line, whatever its queue. If no worker served that queue, the job
kept the slot, and the jobs of other queues behind it waited. Now such a job is left to an admission, which parks it and
gives the slot to the next one.

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


def upgrade() -> None:
    for statement in (IS_SERVED, HAND_OVER):
        execute_as_written(statement)


def downgrade() -> None:
    execute_as_written(replaced(former.HAND_OVER))
    execute_as_written("DROP FUNCTION procrastinate_is_served(text)")
