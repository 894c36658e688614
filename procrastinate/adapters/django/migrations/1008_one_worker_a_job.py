# Generated from the Alembic revision procrastinate_0008: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""CREATE FUNCTION procrastinate_notify_waiting(queue_name text, job_id bigint, upcoming boolean, number bigint)
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
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    undated bigint[];
    stray bigint[];
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
    WHERE job.status = 'todo' AND event.at IS NOT NULL
        AND NOT (SELECT procrastinate_is_copied(one.id) FROM inserted AS one LIMIT 1);

    PERFORM procrastinate_notify_waiting(
        job.queue_name::text,
        max(job.id),
        bool_or(job.scheduled_at IS NOT NULL OR job.lock IS NOT NULL),
        count(*)
    )
    FROM inserted AS job
    WHERE job.status = 'todo'
    GROUP BY job.queue_name;

    SELECT
        array_agg(job.id) FILTER (WHERE job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting')),
        array_agg(job.id) FILTER (WHERE job.readiness NOT IN (0, 1, 2))
    INTO undated, stray
    FROM inserted AS job;
    IF stray IS NOT NULL THEN
        UPDATE procrastinate_jobs SET readiness = 0 WHERE id = ANY (stray);
    END IF;
    IF undated IS NOT NULL THEN
        UPDATE procrastinate_jobs SET finished_at = now() WHERE id = ANY (undated);
    END IF;
    RETURN NULL;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_updated() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_nestloop = off
AS $function$
DECLARE
    released text[];
    undated bigint[];
    stale bigint[];
    notified bigint;
    is_restoring boolean;
BEGIN
    IF NOT EXISTS (SELECT FROM after_update) THEN
        RETURN NULL;
    END IF;
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    is_restoring := procrastinate_is_restoring();
    WITH changed AS MATERIALIZED (
        SELECT
            job.id, job.queue_name, job.status, job.scheduled_at, job.lock, job.readiness,
            was.status AS was_status,
            job.status <> was.status AS is_moved,
            job.scheduled_at IS DISTINCT FROM was.scheduled_at AS is_rescheduled,
            job.abort_requested AND NOT was.abort_requested AS is_abort_requested,
            job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting') AS is_undated,
            job.readiness NOT IN (0, 1, 2) OR
            was.status = 'todo' AND job.status = 'todo' AND job.readiness <> 0 AND job.readiness = was.readiness
                AND (job.scheduled_at, job.lock) IS DISTINCT FROM (was.scheduled_at, was.lock) AS is_stale,
            CASE
                WHEN (was.status = 'doing' OR (was.status = 'todo' AND was.readiness <> 2))
                    AND (
                        job.lock IS DISTINCT FROM was.lock
                        OR job.status NOT IN ('todo', 'doing')
                        OR (job.status = 'todo' AND was.status = 'doing')
                        OR job.scheduled_at IS DISTINCT FROM was.scheduled_at
                    )
                THEN was.lock
            END AS released_lock
        FROM before_update AS was
        JOIN after_update AS job ON job.id = was.id
        WHERE (
            was.status, was.readiness, was.scheduled_at, was.lock, was.queue_name, was.abort_requested
        ) IS DISTINCT FROM (
            job.status, job.readiness, job.scheduled_at, job.lock, job.queue_name, job.abort_requested
        )
    ),
    history AS (
        INSERT INTO procrastinate_events (job_id, type, at)
        SELECT
            id,
            CASE
                WHEN status = 'doing' THEN 'started'
                WHEN status = 'todo' AND was_status = 'doing' THEN 'deferred_for_retry'
                WHEN status = 'todo' THEN 'retried'
                ELSE status::text
            END::procrastinate_job_event_type,
            now()
        FROM changed WHERE is_moved AND status <> 'aborting' AND NOT is_restoring
        UNION ALL
        SELECT id, 'scheduled', scheduled_at
        FROM changed
        WHERE status = 'todo' AND (is_moved OR is_rescheduled) AND scheduled_at IS NOT NULL AND NOT is_restoring
        UNION ALL
        SELECT id, 'abort_requested', now()
        FROM changed WHERE is_abort_requested AND NOT is_restoring
    ),
    woken AS (
        SELECT procrastinate_notify_waiting(
            queue_name::text,
            max(id),
            bool_or(readiness = 0 AND (scheduled_at IS NOT NULL OR lock IS NOT NULL)),
            count(*)
        )
        FROM changed
        WHERE status = 'todo' AND readiness <> 2
        GROUP BY queue_name
    ),
    told AS (
        SELECT procrastinate_notify_abort(queue_name::text, id)
        FROM changed
        WHERE is_abort_requested AND status = 'doing'
    )
    SELECT
        array_agg(DISTINCT released_lock) FILTER (WHERE released_lock IS NOT NULL),
        array_agg(id) FILTER (WHERE is_undated),
        array_agg(id) FILTER (WHERE is_stale),
        (SELECT count(*) FROM woken) + (SELECT count(*) FROM told)
    INTO released, undated, stale, notified
    FROM changed;

    -- Plain SQL that ends a job need not set finished_at, and plain SQL that reschedules one need not clear readiness.
    IF undated IS NOT NULL THEN
        UPDATE procrastinate_jobs SET finished_at = now() WHERE id = ANY (undated);
    END IF;
    IF stale IS NOT NULL THEN
        UPDATE procrastinate_jobs SET readiness = 0 WHERE id = ANY (stale);
    END IF;

    IF released IS NOT NULL THEN
        PERFORM procrastinate_unpark_next(released);
    END IF;
    RETURN NULL;
END
$function$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0008' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0007';""",
]

BACKWARD = [
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    undated bigint[];
    stray bigint[];
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
    WHERE job.status = 'todo' AND event.at IS NOT NULL
        AND NOT (SELECT procrastinate_is_copied(one.id) FROM inserted AS one LIMIT 1);

    PERFORM procrastinate_notify_waiting(
        job.queue_name::text, max(job.id), bool_or(job.scheduled_at IS NOT NULL OR job.lock IS NOT NULL)
    )
    FROM inserted AS job
    WHERE job.status = 'todo'
    GROUP BY job.queue_name;

    SELECT
        array_agg(job.id) FILTER (WHERE job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting')),
        array_agg(job.id) FILTER (WHERE job.readiness NOT IN (0, 1, 2))
    INTO undated, stray
    FROM inserted AS job;
    IF stray IS NOT NULL THEN
        UPDATE procrastinate_jobs SET readiness = 0 WHERE id = ANY (stray);
    END IF;
    IF undated IS NOT NULL THEN
        UPDATE procrastinate_jobs SET finished_at = now() WHERE id = ANY (undated);
    END IF;
    RETURN NULL;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_updated() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_nestloop = off
AS $function$
DECLARE
    released text[];
    undated bigint[];
    stale bigint[];
    notified bigint;
    is_restoring boolean;
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    is_restoring := procrastinate_is_restoring();
    WITH changed AS MATERIALIZED (
        SELECT
            job.id, job.queue_name, job.status, job.scheduled_at, job.lock, job.readiness,
            was.status AS was_status,
            job.status <> was.status AS is_moved,
            job.scheduled_at IS DISTINCT FROM was.scheduled_at AS is_rescheduled,
            job.abort_requested AND NOT was.abort_requested AS is_abort_requested,
            job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting') AS is_undated,
            job.readiness NOT IN (0, 1, 2) OR
            was.status = 'todo' AND job.status = 'todo' AND job.readiness <> 0 AND job.readiness = was.readiness
                AND (job.scheduled_at, job.lock) IS DISTINCT FROM (was.scheduled_at, was.lock) AS is_stale,
            CASE
                WHEN (was.status = 'doing' OR (was.status = 'todo' AND was.readiness <> 2))
                    AND (
                        job.lock IS DISTINCT FROM was.lock
                        OR job.status NOT IN ('todo', 'doing')
                        OR (job.status = 'todo' AND was.status = 'doing')
                        OR job.scheduled_at IS DISTINCT FROM was.scheduled_at
                    )
                THEN was.lock
            END AS released_lock
        FROM before_update AS was
        JOIN after_update AS job ON job.id = was.id
        WHERE (
            was.status, was.readiness, was.scheduled_at, was.lock, was.queue_name, was.abort_requested
        ) IS DISTINCT FROM (
            job.status, job.readiness, job.scheduled_at, job.lock, job.queue_name, job.abort_requested
        )
    ),
    history AS (
        INSERT INTO procrastinate_events (job_id, type, at)
        SELECT
            id,
            CASE
                WHEN status = 'doing' THEN 'started'
                WHEN status = 'todo' AND was_status = 'doing' THEN 'deferred_for_retry'
                WHEN status = 'todo' THEN 'retried'
                ELSE status::text
            END::procrastinate_job_event_type,
            now()
        FROM changed WHERE is_moved AND status <> 'aborting' AND NOT is_restoring
        UNION ALL
        SELECT id, 'scheduled', scheduled_at
        FROM changed
        WHERE status = 'todo' AND (is_moved OR is_rescheduled) AND scheduled_at IS NOT NULL AND NOT is_restoring
        UNION ALL
        SELECT id, 'abort_requested', now()
        FROM changed WHERE is_abort_requested AND NOT is_restoring
    ),
    woken AS (
        SELECT procrastinate_notify_waiting(
            queue_name::text,
            max(id),
            bool_or(readiness = 0 AND (scheduled_at IS NOT NULL OR lock IS NOT NULL))
        )
        FROM changed
        WHERE status = 'todo' AND readiness <> 2
        GROUP BY queue_name
    ),
    told AS (
        SELECT procrastinate_notify_abort(queue_name::text, id)
        FROM changed
        WHERE is_abort_requested AND status = 'doing'
    )
    SELECT
        array_agg(DISTINCT released_lock) FILTER (WHERE released_lock IS NOT NULL),
        array_agg(id) FILTER (WHERE is_undated),
        array_agg(id) FILTER (WHERE is_stale),
        (SELECT count(*) FROM woken) + (SELECT count(*) FROM told)
    INTO released, undated, stale, notified
    FROM changed;

    -- Plain SQL that ends a job need not set finished_at, and plain SQL that reschedules one need not clear readiness.
    IF undated IS NOT NULL THEN
        UPDATE procrastinate_jobs SET finished_at = now() WHERE id = ANY (undated);
    END IF;
    IF stale IS NOT NULL THEN
        UPDATE procrastinate_jobs SET readiness = 0 WHERE id = ANY (stale);
    END IF;

    IF released IS NOT NULL THEN
        PERFORM procrastinate_unpark_next(released);
    END IF;
    RETURN NULL;
END
$function$;""",
r"""DROP FUNCTION procrastinate_notify_waiting(text, bigint, boolean, bigint);""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0007' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0008';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1007_with_3x')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0008'),

    ]
