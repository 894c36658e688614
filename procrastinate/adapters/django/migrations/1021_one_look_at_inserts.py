# Generated from the Alembic revision procrastinate_0021: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_inserted() RETURNS trigger
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
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_notify_waiting(queue_name text, job_id bigint, upcoming boolean, number bigint)
RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    message jsonb;
    named jsonb := '{}';
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
            named := jsonb_build_object('workers', waiting[1:number], 'waiting', cardinality(waiting));
        END IF;
    END IF;
    message := named
        || jsonb_build_object('type', 'job_inserted', 'job_id', job_id, 'upcoming', upcoming);
    PERFORM
        pg_notify(procrastinate_queue_channel(queue_name), message::text),
        pg_notify('procrastinate_any_queue_v1', message::text);
END
$function$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0021' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0020';""",
]

BACKWARD = [
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    undated bigint[];
    stray bigint[];
    has_line boolean;
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT job.id, event.type, event.at
    FROM inserted AS job
    CROSS JOIN LATERAL (
        VALUES
            ('deferred'::procrastinate_job_event_type, now()),
            ('scheduled'::procrastinate_job_event_type, job.scheduled_at)
    ) AS event (type, at)
    WHERE job.status = 'todo' AND event.at IS NOT NULL AND (job.readiness NOT IN (3, 5) OR event.type = 'deferred')
        AND NOT (SELECT procrastinate_is_copied(one.id) FROM inserted AS one LIMIT 1);

    PERFORM procrastinate_notify_waiting(
        job.queue_name::text,
        max(job.id),
        bool_or(job.scheduled_at IS NOT NULL OR job.lock IS NOT NULL),
        count(*)
    )
    FROM inserted AS job
    WHERE job.status = 'todo' AND job.readiness <> 5
    GROUP BY job.queue_name;

    SELECT
        array_agg(job.id) FILTER (WHERE job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting')),
        array_agg(job.id) FILTER (WHERE job.readiness NOT IN (5, 0, 1, 2, CASE WHEN job.limit_name IS NULL THEN 0 ELSE 3 END)
            OR (job.limit_name IS NOT NULL AND job.scheduled_at IS NULL AND job.status = 'todo')),
        bool_or(job.limit_name IS NOT NULL)
    INTO undated, stray, has_line
    FROM inserted AS job;
    IF stray IS NOT NULL THEN
        UPDATE procrastinate_jobs SET readiness = 0, scheduled_at = CASE WHEN limit_name IS NULL THEN scheduled_at ELSE coalesce(scheduled_at, now()) END WHERE id = ANY (stray);
    END IF;
    IF undated IS NOT NULL THEN
        UPDATE procrastinate_jobs SET finished_at = now() WHERE id = ANY (undated);
    END IF;
    IF has_line AND has_table_privilege('procrastinate_openings', 'INSERT')
        AND NOT (SELECT procrastinate_is_copied(one.id) FROM inserted AS one LIMIT 1)
    THEN
        INSERT INTO procrastinate_openings (limit_name, limit_key)
        SELECT DISTINCT job.limit_name, job.limit_key
        FROM inserted AS job
        WHERE job.status = 'todo' AND job.readiness = 3 AND job.limit_name IS NOT NULL;
    END IF;
    RETURN NULL;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_notify_waiting(queue_name text, job_id bigint, upcoming boolean, number bigint)
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
$function$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0020' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0021';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1020_weights')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0021'),

    ]
