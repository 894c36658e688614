# Generated from the Alembic revision procrastinate_0006: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""DO $do$
DECLARE
    former text := current_setting('lock_timeout');
    others text;
BEGIN
    FOR attempt IN 1..430 LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '200ms', true);
            LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE;
            LOCK TABLE procrastinate_workers IN ACCESS EXCLUSIVE MODE;
            PERFORM set_config('lock_timeout', former, true);
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            PERFORM pg_sleep(0.5);
        END;
        WITH RECURSIVE waiting (pid) AS (
            SELECT pg_backend_pid()
            UNION
            SELECT lock.pid
            FROM waiting JOIN pg_locks AS lock ON NOT lock.granted AND waiting.pid = ANY (pg_blocking_pids(lock.pid))
        )
        SELECT string_agg(DISTINCT pid::text, ', ') INTO others
        FROM waiting JOIN pg_locks AS lock USING (pid)
        WHERE lock.relation IN ('procrastinate_jobs'::regclass, 'procrastinate_workers'::regclass) AND lock.granted AND lock.pid <> pg_backend_pid()
            AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database());
        IF others IS NOT NULL THEN
            RAISE EXCEPTION 'A session that has locked the tables of the queue waits for this migration'
                USING ERRCODE = 'deadlock_detected',
                    DETAIL = 'Server processes that wait: ' || others,
                    HINT = 'Repeat the migration';
        END IF;
    END LOOP;
    SELECT string_agg(DISTINCT pid::text, ', ') INTO others
    FROM pg_locks AS lock
    WHERE lock.relation IN ('procrastinate_jobs'::regclass, 'procrastinate_workers'::regclass) AND lock.granted AND lock.pid <> pg_backend_pid()
            AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database());
    RAISE EXCEPTION 'The tables of the queue are in use, and nothing was changed'
        USING ERRCODE = 'lock_not_available',
            DETAIL = 'Server processes with a lock on them: ' || coalesce(others, 'none any more'),
            HINT = 'End their transactions (pg_stat_activity shows them), and repeat the migration';
END
$do$;""",
r"""CREATE FUNCTION procrastinate_is_set_by_session(setting_name text) RETURNS boolean
LANGUAGE sql STABLE
AS $function$
    SELECT source IN ('client', 'session') FROM pg_catalog.pg_settings WHERE name = setting_name
$function$;""",
r"""CREATE FUNCTION procrastinate_is_restoring() RETURNS boolean
LANGUAGE sql STABLE
AS $function$
    SELECT coalesce(current_setting('procrastinate.restoring', true) = 'on', false) OR CASE
        WHEN current_setting('check_function_bodies') = 'off'
        THEN procrastinate_is_set_by_session('check_function_bodies')
        ELSE false
    END
$function$;""",
r"""CREATE FUNCTION procrastinate_is_copied(job_id bigint) RETURNS boolean
LANGUAGE sql
AS $function$
    SELECT procrastinate_is_restoring() OR job_id > CASE
        WHEN has_sequence_privilege(to_regclass('procrastinate_jobs_id_seq'), 'USAGE, SELECT')
        THEN coalesce(pg_sequence_last_value(to_regclass('procrastinate_jobs_id_seq')), 0)
        ELSE job_id
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
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_deleted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_hashjoin = off SET enable_mergejoin = off
AS $function$
DECLARE
    released text[];
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    DELETE FROM procrastinate_events AS event USING deleted AS job WHERE event.job_id = job.id;

    UPDATE procrastinate_periodic_defers AS tick SET job_id = NULL
    FROM deleted AS job
    WHERE tick.job_id = job.id;

    SELECT array_agg(DISTINCT was.lock) INTO released
    FROM deleted AS was
    WHERE was.lock IS NOT NULL AND (was.status = 'doing' OR (was.status = 'todo' AND was.readiness <> 2));
    IF released IS NOT NULL THEN
        PERFORM procrastinate_unpark_next(released);
    END IF;
    RETURN NULL;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_details_deleted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_seqscan = off
AS $function$
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    DELETE FROM procrastinate_results AS result USING deleted AS job WHERE result.job_id = job.id;
    DELETE FROM procrastinate_errors AS error USING deleted AS job WHERE error.job_id = job.id;
    RETURN NULL;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_unpark_next(released text[]) RETURNS void
LANGUAGE plpgsql
SET enable_nestloop = on SET enable_hashjoin = off SET enable_mergejoin = off
AS $function$
BEGIN
    UPDATE procrastinate_jobs AS job SET readiness = 0
    FROM unnest(released) AS freed (lock)
    CROSS JOIN LATERAL (
        SELECT waiting.id
        FROM procrastinate_jobs AS waiting
        WHERE waiting.lock = freed.lock AND waiting.status = 'todo' AND waiting.readiness = 2
        ORDER BY waiting.priority DESC, waiting.id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS next
    WHERE job.id = next.id;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_notify_waiting(queue_name text, job_id bigint, upcoming boolean) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    payload text;
    is_awaited boolean;
BEGIN
    IF current_setting('procrastinate.notify', true) = 'off' THEN
        RETURN;
    END IF;
    IF current_setting('transaction_isolation') = 'read committed'
        AND has_table_privilege('procrastinate_workers', 'SELECT')
    THEN
        SELECT bool_or(
            worker.called_for IS NOT NULL AND (worker.called_for = '{}' OR queue_name = ANY (worker.called_for))
        )
        INTO is_awaited
        FROM procrastinate_workers AS worker;
        IF NOT is_awaited THEN
            RETURN;
        END IF;
    END IF;
    payload := json_build_object('type', 'job_inserted', 'job_id', job_id, 'upcoming', upcoming)::text;
    PERFORM pg_notify(procrastinate_queue_channel(queue_name), payload);
    PERFORM pg_notify('procrastinate_any_queue_v1', payload);
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_notify_abort(queue_name text, job_id bigint) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    payload text := json_build_object('type', 'abort_job_requested', 'job_id', job_id)::text;
BEGIN
    IF current_setting('procrastinate.notify', true) = 'off' THEN
        RETURN;
    END IF;
    PERFORM pg_notify(procrastinate_queue_channel(queue_name), payload);
    PERFORM pg_notify('procrastinate_any_queue_v1', payload);
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_truncated() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    part text;
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    FOREACH part IN ARRAY ARRAY['events', 'results', 'errors', 'periodic_defers'] LOOP
        IF pg_relation_size(format('procrastinate_%s', part)::regclass) > 0 THEN
            EXECUTE format('TRUNCATE procrastinate_%s', part);
        END IF;
    END LOOP;
    RETURN NULL;
END
$function$;""",
r"""CREATE TRIGGER procrastinate_jobs_truncated AFTER TRUNCATE ON procrastinate_jobs
FOR EACH STATEMENT EXECUTE FUNCTION procrastinate_jobs_truncated();""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0006' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0005';""",
]

BACKWARD = [
r"""DO $do$
DECLARE
    former text := current_setting('lock_timeout');
    others text;
BEGIN
    FOR attempt IN 1..430 LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '200ms', true);
            LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE;
            LOCK TABLE procrastinate_workers IN ACCESS EXCLUSIVE MODE;
            PERFORM set_config('lock_timeout', former, true);
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            PERFORM pg_sleep(0.5);
        END;
        WITH RECURSIVE waiting (pid) AS (
            SELECT pg_backend_pid()
            UNION
            SELECT lock.pid
            FROM waiting JOIN pg_locks AS lock ON NOT lock.granted AND waiting.pid = ANY (pg_blocking_pids(lock.pid))
        )
        SELECT string_agg(DISTINCT pid::text, ', ') INTO others
        FROM waiting JOIN pg_locks AS lock USING (pid)
        WHERE lock.relation IN ('procrastinate_jobs'::regclass, 'procrastinate_workers'::regclass) AND lock.granted AND lock.pid <> pg_backend_pid()
            AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database());
        IF others IS NOT NULL THEN
            RAISE EXCEPTION 'A session that has locked the tables of the queue waits for this migration'
                USING ERRCODE = 'deadlock_detected',
                    DETAIL = 'Server processes that wait: ' || others,
                    HINT = 'Repeat the migration';
        END IF;
    END LOOP;
    SELECT string_agg(DISTINCT pid::text, ', ') INTO others
    FROM pg_locks AS lock
    WHERE lock.relation IN ('procrastinate_jobs'::regclass, 'procrastinate_workers'::regclass) AND lock.granted AND lock.pid <> pg_backend_pid()
            AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database());
    RAISE EXCEPTION 'The tables of the queue are in use, and nothing was changed'
        USING ERRCODE = 'lock_not_available',
            DETAIL = 'Server processes with a lock on them: ' || coalesce(others, 'none any more'),
            HINT = 'End their transactions (pg_stat_activity shows them), and repeat the migration';
END
$do$;""",
r"""DROP TRIGGER procrastinate_jobs_truncated ON procrastinate_jobs;""",
r"""DROP FUNCTION procrastinate_jobs_truncated();""",
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    undated bigint[];
BEGIN
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT job.id, event.type, event.at
    FROM inserted AS job
    CROSS JOIN LATERAL (
        VALUES
            ('deferred'::procrastinate_job_event_type, now()),
            ('scheduled'::procrastinate_job_event_type, job.scheduled_at)
    ) AS event (type, at)
    WHERE job.status = 'todo' AND event.at IS NOT NULL;

    PERFORM procrastinate_notify_waiting(
        job.queue_name::text, max(job.id), bool_or(job.scheduled_at IS NOT NULL OR job.lock IS NOT NULL)
    )
    FROM inserted AS job
    WHERE job.status = 'todo'
    GROUP BY job.queue_name;

    SELECT array_agg(job.id) INTO undated
    FROM inserted AS job
    WHERE job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting');
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
BEGIN
    WITH changed AS MATERIALIZED (
        SELECT
            job.id, job.queue_name, job.status, job.scheduled_at, job.lock, job.readiness,
            was.status AS was_status,
            job.status <> was.status AS is_moved,
            job.scheduled_at IS DISTINCT FROM was.scheduled_at AS is_rescheduled,
            job.abort_requested AND NOT was.abort_requested AS is_abort_requested,
            job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting') AS is_undated,
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
        FROM changed WHERE is_moved AND status <> 'aborting'
        UNION ALL
        SELECT id, 'scheduled', scheduled_at
        FROM changed WHERE status = 'todo' AND (is_moved OR is_rescheduled) AND scheduled_at IS NOT NULL
        UNION ALL
        SELECT id, 'abort_requested', now()
        FROM changed WHERE is_abort_requested
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
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_deleted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_hashjoin = off SET enable_mergejoin = off
AS $function$
DECLARE
    released text[];
BEGIN
    DELETE FROM procrastinate_events AS event USING deleted AS job WHERE event.job_id = job.id;

    UPDATE procrastinate_periodic_defers AS tick SET job_id = NULL
    FROM deleted AS job
    WHERE tick.job_id = job.id;

    SELECT array_agg(DISTINCT was.lock) INTO released
    FROM deleted AS was
    WHERE was.lock IS NOT NULL AND (was.status = 'doing' OR (was.status = 'todo' AND was.readiness <> 2));
    IF released IS NOT NULL THEN
        PERFORM procrastinate_unpark_next(released);
    END IF;
    RETURN NULL;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_details_deleted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_seqscan = off
AS $function$
BEGIN
    DELETE FROM procrastinate_results AS result USING deleted AS job WHERE result.job_id = job.id;
    DELETE FROM procrastinate_errors AS error USING deleted AS job WHERE error.job_id = job.id;
    RETURN NULL;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_unpark_next(released text[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
SET enable_nestloop = on SET enable_hashjoin = off SET enable_mergejoin = off
AS $function$
BEGIN
    UPDATE procrastinate_jobs AS job SET readiness = 0
    FROM unnest(released) AS freed (lock)
    CROSS JOIN LATERAL (
        SELECT waiting.id
        FROM procrastinate_jobs AS waiting
        WHERE waiting.lock = freed.lock AND waiting.status = 'todo' AND waiting.readiness = 2
        ORDER BY waiting.priority DESC, waiting.id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS next
    WHERE job.id = next.id;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_notify_waiting(queue_name text, job_id bigint, upcoming boolean) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    payload text;
    is_awaited boolean;
BEGIN
    IF current_setting('transaction_isolation') = 'read committed'
        AND has_table_privilege('procrastinate_workers', 'SELECT')
    THEN
        SELECT bool_or(
            worker.called_for IS NOT NULL AND (worker.called_for = '{}' OR queue_name = ANY (worker.called_for))
        )
        INTO is_awaited
        FROM procrastinate_workers AS worker;
        IF NOT is_awaited THEN
            RETURN;
        END IF;
    END IF;
    payload := json_build_object('type', 'job_inserted', 'job_id', job_id, 'upcoming', upcoming)::text;
    PERFORM pg_notify(procrastinate_queue_channel(queue_name), payload);
    PERFORM pg_notify('procrastinate_any_queue_v1', payload);
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_notify_abort(queue_name text, job_id bigint) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    payload text := json_build_object('type', 'abort_job_requested', 'job_id', job_id)::text;
BEGIN
    PERFORM pg_notify(procrastinate_queue_channel(queue_name), payload);
    PERFORM pg_notify('procrastinate_any_queue_v1', payload);
END
$function$;""",
r"""DROP FUNCTION procrastinate_is_copied(bigint);""",
r"""DROP FUNCTION procrastinate_is_restoring();""",
r"""DROP FUNCTION procrastinate_is_set_by_session(text);""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0005' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0006';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1005_liveness')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0006'),

    ]
