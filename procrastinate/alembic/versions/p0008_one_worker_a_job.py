"""One worker is woken for a job, and not all that wait.

A notification names as many workers as there are jobs. The others leave the jobs to them and look a little later. A
worker written for p0007 does not read the names: it looks at each notification, as before. Functions are replaced,
and no table is touched.

Revision ID: procrastinate_0008
Revises: procrastinate_0006
"""

from __future__ import annotations

from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0006_kept_together as former

revision = "procrastinate_0008"
down_revision = "procrastinate_0007"
branch_labels = None
depends_on = None

# Called from the triggers, with their search_path. A transaction that reads an older state of the table than the
# latest cannot know who waits, and notifies. So does a role that may not read it, and every writer while no worker is
# registered. Workers whose heartbeat is late are named last. The numbers in a row may be of any size and infinite, so
# no interval is made of them.
NOTIFY_WAITING = """
CREATE FUNCTION procrastinate_notify_waiting(queue_name text, job_id bigint, upcoming boolean, number bigint)
RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    message jsonb := jsonb_build_object('type', 'job_inserted', 'job_id', job_id, 'upcoming', upcoming);
    registered bigint;
    waiting bigint[];
BEGIN
    IF current_setting('procrastinate.notify', true) = 'off' THEN
        RETURN;
    END IF;
    IF current_setting('transaction_isolation') = 'read committed'
        AND has_table_privilege('procrastinate_workers', 'SELECT')
    THEN
        SELECT
            count(*),
            array_agg(
                worker.id
                ORDER BY
                    (extract(epoch FROM clock_timestamp()) - extract(epoch FROM worker.last_heartbeat))::float8 / 2
                        > coalesce(worker.heartbeat_interval, 10),
                    random()
            ) FILTER (WHERE worker.called_for = '{}' OR queue_name = ANY (worker.called_for))
        INTO registered, waiting
        FROM procrastinate_workers AS worker;
        IF registered > 0 AND waiting IS NULL THEN
            RETURN;
        END IF;
        IF number < cardinality(waiting) AND number <= 16 THEN
            message := message
                || jsonb_build_object('workers', waiting[1:number], 'waiting', cardinality(waiting));
        END IF;
    END IF;
    PERFORM pg_notify(procrastinate_queue_channel(queue_name), message::text);
    PERFORM pg_notify('procrastinate_any_queue_v1', message::text);
END
$function$
"""

JOBS_INSERTED = replaced(
    former.JOBS_INSERTED,
    (
        """
        job.queue_name::text, max(job.id), bool_or(job.scheduled_at IS NOT NULL OR job.lock IS NOT NULL)
""",
        """
        job.queue_name::text,
        max(job.id),
        bool_or(job.scheduled_at IS NOT NULL OR job.lock IS NOT NULL),
        count(*)
""",
    ),
)

# A fetch that finds nothing is an UPDATE of no row.
JOBS_UPDATED = replaced(
    former.JOBS_UPDATED,
    (
        "\nBEGIN\n",
        """
BEGIN
    IF NOT EXISTS (SELECT FROM after_update) THEN
        RETURN NULL;
    END IF;
""",
    ),
    (
        "bool_or(readiness = 0 AND (scheduled_at IS NOT NULL OR lock IS NOT NULL))\n",
        """bool_or(readiness = 0 AND (scheduled_at IS NOT NULL OR lock IS NOT NULL)),
            count(*)
""",
    ),
)


def upgrade() -> None:
    for statement in (NOTIFY_WAITING, JOBS_INSERTED, JOBS_UPDATED):
        execute_as_written(statement)


def downgrade() -> None:
    for statement in (former.JOBS_INSERTED, former.JOBS_UPDATED):
        execute_as_written(statement)
    execute_as_written("DROP FUNCTION procrastinate_notify_waiting(text, bigint, boolean, bigint)")
