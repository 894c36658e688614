"""The trigger of an insert looks at the new jobs once, and then does only what they need.

A plain job is one that waits in one queue with no schedule and no limit. Its insert needs an event and a notification,
and nothing else. The former trigger ran six queries for it, which cost a sixth of the server's processor time for a
defer.

Other jobs get what they got before. A worker written for p0020 sees no difference.

Revision ID: procrastinate_0021
Revises: procrastinate_0020
"""

from __future__ import annotations

from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0008_one_worker_a_job as eighth
from procrastinate.alembic.versions import p0014_limits as former

revision = "procrastinate_0021"
down_revision = "procrastinate_0020"
branch_labels = None
depends_on = None

# A skipped insert (ON CONFLICT DO NOTHING) has no new job. Conditions with a query in them take a query of their own to
# decide, so they stand behind those without.
JOBS_INSERTED = """
CREATE OR REPLACE FUNCTION procrastinate_jobs_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    number bigint;
    last_id bigint;
    first_queue text;
    last_queue text;
    is_upcoming boolean;
    all_wait boolean;
    has_schedule boolean;
    has_line boolean;
    is_new boolean;
    undated bigint[];
    stray bigint[];
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    SELECT
        count(*),
        max(job.id),
        min(job.queue_name),
        max(job.queue_name),
        bool_or(job.scheduled_at IS NOT NULL OR job.lock IS NOT NULL),
        bool_and(job.status = 'todo' AND job.readiness <> 5),
        bool_or(job.scheduled_at IS NOT NULL),
        bool_or(job.limit_name IS NOT NULL),
        array_agg(job.id) FILTER (WHERE job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting')),
        array_agg(job.id) FILTER (
            WHERE job.readiness NOT IN (5, 0, 1, 2, CASE WHEN job.limit_name IS NULL THEN 0 ELSE 3 END)
                OR (job.limit_name IS NOT NULL AND job.scheduled_at IS NULL AND job.status = 'todo')
        )
    INTO
        number, last_id, first_queue, last_queue, is_upcoming, all_wait, has_schedule, has_line, undated, stray
    FROM inserted AS job;
    IF number = 0 THEN
        RETURN NULL;
    END IF;

    is_new := NOT procrastinate_is_copied(last_id);
    IF is_new AND all_wait AND NOT has_schedule THEN
        INSERT INTO procrastinate_events (job_id, type, at) SELECT job.id, 'deferred', now() FROM inserted AS job;
    ELSIF is_new THEN
        INSERT INTO procrastinate_events (job_id, type, at)
        SELECT job.id, event.type, event.at
        FROM inserted AS job
        CROSS JOIN LATERAL (
            VALUES
                ('deferred'::procrastinate_job_event_type, now()),
                ('scheduled'::procrastinate_job_event_type, job.scheduled_at)
        ) AS event (type, at)
        WHERE job.status = 'todo' AND event.at IS NOT NULL
            AND (job.readiness NOT IN (3, 5) OR event.type = 'deferred');
    END IF;

    IF all_wait AND first_queue = last_queue THEN
        PERFORM procrastinate_notify_waiting(first_queue, last_id, is_upcoming, number);
    ELSE
        PERFORM procrastinate_notify_waiting(
            job.queue_name::text,
            max(job.id),
            bool_or(job.scheduled_at IS NOT NULL OR job.lock IS NOT NULL),
            count(*)
        )
        FROM inserted AS job
        WHERE job.status = 'todo' AND job.readiness <> 5
        GROUP BY job.queue_name;
    END IF;

    IF stray IS NOT NULL THEN
        UPDATE procrastinate_jobs
        SET readiness = 0,
            scheduled_at = CASE WHEN limit_name IS NULL THEN scheduled_at ELSE coalesce(scheduled_at, now()) END
        WHERE id = ANY (stray);
    END IF;
    IF undated IS NOT NULL THEN
        UPDATE procrastinate_jobs SET finished_at = now() WHERE id = ANY (undated);
    END IF;
    -- The openings of a restored job are restored, too. Without them, the sweep of the lines finds the job.
    IF has_line AND is_new AND has_table_privilege('procrastinate_openings', 'INSERT') THEN
        INSERT INTO procrastinate_openings (limit_name, limit_key)
        SELECT DISTINCT job.limit_name, job.limit_key
        FROM inserted AS job
        WHERE job.status = 'todo' AND job.readiness = 3 AND job.limit_name IS NOT NULL;
    END IF;
    RETURN NULL;
END
$function$
"""

# The message is made after the question whether a worker waits, and both channels are notified in one query.
NOTIFY_WAITING = replaced(
    eighth.NOTIFY_WAITING,
    (
        "    message jsonb := jsonb_build_object('type', 'job_inserted', 'job_id', job_id, 'upcoming', upcoming);\n",
        "    message jsonb;\n    named jsonb := '{}';\n",
    ),
    (
        """            message := message
                || jsonb_build_object('workers', waiting[1:number], 'waiting', cardinality(waiting));
""",
        """            named := jsonb_build_object('workers', waiting[1:number], 'waiting', cardinality(waiting));
""",
    ),
    (
        """    PERFORM pg_notify(procrastinate_queue_channel(queue_name), message::text);
    PERFORM pg_notify('procrastinate_any_queue_v1', message::text);
""",
        """    message := named
        || jsonb_build_object('type', 'job_inserted', 'job_id', job_id, 'upcoming', upcoming);
    PERFORM
        pg_notify(procrastinate_queue_channel(queue_name), message::text),
        pg_notify('procrastinate_any_queue_v1', message::text);
""",
    ),
)


def upgrade() -> None:
    for statement in (JOBS_INSERTED, NOTIFY_WAITING):
        execute_as_written(statement)


def downgrade() -> None:
    for statement in (former.JOBS_INSERTED, eighth.NOTIFY_WAITING):
        execute_as_written(replaced(statement))
