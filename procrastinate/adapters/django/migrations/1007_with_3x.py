# Generated from the Alembic revision procrastinate_0007: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""DO $do$
BEGIN
    IF to_regclass('procrastinate_jobs_queueing_lock_idx_v1') IS NULL THEN
        ALTER INDEX procrastinate_jobs_queueing_lock_idx RENAME TO procrastinate_jobs_queueing_lock_idx_v1;
    END IF;
END
$do$;""",
r"""DO $do$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_type
        WHERE typname = 'procrastinate_job_to_defer_v1'
            AND typnamespace = quote_ident(current_schema())::regnamespace
    ) THEN
        CREATE TYPE procrastinate_job_to_defer_v1 AS (
            queue_name varchar,
            task_name varchar,
            priority integer,
            lock text,
            queueing_lock text,
            args jsonb,
            scheduled_at timestamptz
        );
    END IF;
END
$do$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_defer_jobs_v1(jobs procrastinate_job_to_defer_v1[]) RETURNS bigint[]
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    place text;
    ids bigint[];
BEGIN
    GET DIAGNOSTICS place = PG_CONTEXT;
    place := substring(split_part(place, chr(10), 1) FROM '("([^"]|"")+"|[a-z_][a-z0-9_]*)[.]procrastinate_defer_jobs_v1[(]');
    PERFORM set_config('search_path', concat_ws(
        ', ', job_type.typnamespace::regnamespace, place, nullif(current_setting('search_path'), '')
    ), true)
    FROM pg_proc AS function JOIN pg_type AS job_type ON job_type.oid = function.prorettype
    WHERE function.oid = to_regprocedure(concat(place || '.', 'procrastinate_fetch_job_v2(varchar[], bigint)'));
    WITH deferred AS (
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
        SELECT
            job.queue_name, job.task_name, coalesce(job.priority, 0), job.lock, job.queueing_lock,
            coalesce(job.args, '{}'), job.scheduled_at
        FROM unnest(jobs) WITH ORDINALITY AS job
        ORDER BY job.ordinality
        RETURNING id
    )
    SELECT array_agg(id ORDER BY id) INTO ids FROM deferred;
    RETURN ids;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_cancel_job_v1(job_id bigint, abort boolean, delete_job boolean) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    place text;
    found_id bigint;
BEGIN
    GET DIAGNOSTICS place = PG_CONTEXT;
    place := substring(split_part(place, chr(10), 1) FROM '("([^"]|"")+"|[a-z_][a-z0-9_]*)[.]procrastinate_cancel_job_v1[(]');
    PERFORM set_config('search_path', concat_ws(
        ', ', job_type.typnamespace::regnamespace, place, nullif(current_setting('search_path'), '')
    ), true)
    FROM pg_proc AS function JOIN pg_type AS job_type ON job_type.oid = function.prorettype
    WHERE function.oid = to_regprocedure(concat(place || '.', 'procrastinate_fetch_job_v2(varchar[], bigint)'));
    IF delete_job THEN
        DELETE FROM procrastinate_jobs AS job
        WHERE job.id = job_id AND job.status = 'todo'
        RETURNING job.id INTO found_id;
    END IF;
    IF found_id IS NULL AND (abort OR NOT delete_job) THEN
        UPDATE procrastinate_jobs AS job SET
            status = CASE job.status WHEN 'todo' THEN 'cancelled' ELSE job.status END,
            abort_requested = job.status = 'doing',
            readiness = 0
        WHERE job.id = job_id AND (job.status = 'todo' OR (abort AND job.status = 'doing'))
        RETURNING job.id INTO found_id;
    END IF;
    RETURN found_id;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_retry_job_v2(
    job_id bigint, retry_at timestamptz, new_priority integer, new_queue_name varchar, new_lock varchar
) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    place text;
BEGIN
    GET DIAGNOSTICS place = PG_CONTEXT;
    place := substring(split_part(place, chr(10), 1) FROM '("([^"]|"")+"|[a-z_][a-z0-9_]*)[.]procrastinate_retry_job_v2[(]');
    PERFORM set_config('search_path', concat_ws(
        ', ', job_type.typnamespace::regnamespace, place, nullif(current_setting('search_path'), '')
    ), true)
    FROM pg_proc AS function JOIN pg_type AS job_type ON job_type.oid = function.prorettype
    WHERE function.oid = to_regprocedure(concat(place || '.', 'procrastinate_fetch_job_v2(varchar[], bigint)'));
    UPDATE procrastinate_jobs AS job SET
        status = CASE WHEN job.status = 'doing' AND job.abort_requested THEN 'failed' ELSE 'todo' END
            ::procrastinate_job_status,
        attempts = job.attempts + 1,
        abort_requested = false,
        worker_id = NULL,
        readiness = 0,
        finished_at = NULL,
        scheduled_at = retry_at,
        priority = coalesce(new_priority, job.priority),
        queue_name = coalesce(new_queue_name, job.queue_name),
        lock = coalesce(new_lock, job.lock),
        queueing_lock = CASE
            WHEN NOT EXISTS (
                SELECT FROM procrastinate_jobs AS twin
                WHERE twin.queueing_lock = job.queueing_lock AND twin.status = 'todo' AND twin.id <> job.id
            ) THEN job.queueing_lock
        END
    WHERE job.id = job_id AND job.status IN ('doing', 'failed');
    IF NOT FOUND THEN
        RAISE 'Job % can not be retried: it is neither in "doing" nor in "failed" status', job_id;
    END IF;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_retry_job_v1(
    job_id bigint, retry_at timestamptz, new_priority integer, new_queue_name varchar, new_lock varchar
) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    place text;
BEGIN
    GET DIAGNOSTICS place = PG_CONTEXT;
    place := substring(split_part(place, chr(10), 1) FROM '("([^"]|"")+"|[a-z_][a-z0-9_]*)[.]procrastinate_retry_job_v1[(]');
    PERFORM set_config('search_path', concat_ws(
        ', ', job_type.typnamespace::regnamespace, place, nullif(current_setting('search_path'), '')
    ), true)
    FROM pg_proc AS function JOIN pg_type AS job_type ON job_type.oid = function.prorettype
    WHERE function.oid = to_regprocedure(concat(place || '.', 'procrastinate_fetch_job_v2(varchar[], bigint)'));
    PERFORM FROM procrastinate_jobs AS job WHERE job.id = job_id AND job.status = 'doing' FOR UPDATE;
    IF NOT FOUND THEN
        RAISE 'Job % can not be retried: it is not in "doing" status', job_id;
    END IF;
    PERFORM procrastinate_retry_job_v2(job_id, retry_at, new_priority, new_queue_name, new_lock);
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_defer_periodic_job_v2(
    _queue_name varchar, _lock varchar, _queueing_lock varchar, _task_name varchar, _priority integer,
    _periodic_id varchar, _defer_timestamp bigint, _args jsonb
) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    place text;
    tick_id bigint;
    deferred_id bigint;
BEGIN
    GET DIAGNOSTICS place = PG_CONTEXT;
    place := substring(split_part(place, chr(10), 1) FROM '("([^"]|"")+"|[a-z_][a-z0-9_]*)[.]procrastinate_defer_periodic_job_v2[(]');
    PERFORM set_config('search_path', concat_ws(
        ', ', job_type.typnamespace::regnamespace, place, nullif(current_setting('search_path'), '')
    ), true)
    FROM pg_proc AS function JOIN pg_type AS job_type ON job_type.oid = function.prorettype
    WHERE function.oid = to_regprocedure(concat(place || '.', 'procrastinate_fetch_job_v2(varchar[], bigint)'));
    INSERT INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)
    VALUES (_task_name, _periodic_id, _defer_timestamp)
    ON CONFLICT DO NOTHING
    RETURNING id INTO tick_id;
    IF tick_id IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args)
    VALUES (_queue_name, _task_name, _priority, _lock, _queueing_lock, _args)
    RETURNING id INTO deferred_id;
    UPDATE procrastinate_periodic_defers SET job_id = deferred_id WHERE id = tick_id;
    RETURN deferred_id;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_fetch_job_v2(target_queue_names varchar[], p_worker_id bigint)
RETURNS procrastinate_jobs
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    place text;
    fetched record;
BEGIN
    GET DIAGNOSTICS place = PG_CONTEXT;
    place := substring(split_part(place, chr(10), 1) FROM '("([^"]|"")+"|[a-z_][a-z0-9_]*)[.]procrastinate_fetch_job_v2[(]');
    PERFORM set_config('search_path', concat_ws(
        ', ', job_type.typnamespace::regnamespace, place, nullif(current_setting('search_path'), '')
    ), true)
    FROM pg_proc AS function JOIN pg_type AS job_type ON job_type.oid = function.prorettype
    WHERE function.oid = to_regprocedure(concat(place || '.', 'procrastinate_fetch_job_v2(varchar[], bigint)'));
    IF NOT pg_try_advisory_xact_lock_shared(1886547811, 2) THEN
        RETURN NULL;
    END IF;
    IF now() < substring(obj_description(to_regprocedure('procrastinate_fetch_job_v2(varchar[], bigint)'), 'pg_proc') FROM '^Fetches nothing before ([0-9T:.+-]+)$')::timestamptz THEN
        RETURN NULL;
    END IF;
    FOR look IN 1..5 LOOP
        BEGIN
            UPDATE procrastinate_jobs AS job SET status = 'doing', worker_id = p_worker_id, readiness = 0
            WHERE job.id = (
                SELECT waiting.id
                FROM procrastinate_jobs AS waiting
                WHERE waiting.status = 'todo'
                    AND (target_queue_names IS NULL OR waiting.queue_name = ANY (target_queue_names))
                    AND (waiting.scheduled_at IS NULL OR waiting.scheduled_at <= now())
                    AND (
                        waiting.lock IS NULL
                        OR waiting.readiness = 1
                        OR NOT EXISTS (
                            SELECT FROM procrastinate_jobs AS rival
                            WHERE rival.lock = waiting.lock AND rival.id <> waiting.id AND (
                                rival.status = 'doing'
                                OR (rival.status = 'todo' AND rival.readiness = 1)
                                OR (
                                    rival.status = 'todo'
                                    AND (rival.scheduled_at IS NULL OR rival.scheduled_at <= now())
                                    AND (-rival.priority, rival.id) < (-waiting.priority, waiting.id)
                                )
                            )
                        )
                    )
                ORDER BY waiting.priority DESC, waiting.id
                LIMIT 1
                FOR UPDATE SKIP LOCKED
            )
            RETURNING job.* INTO fetched;
            RETURN fetched;
        EXCEPTION WHEN unique_violation THEN
            CONTINUE;
        END;
    END LOOP;
    RETURN NULL;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_finish_job_v1(
    job_id bigint, end_status procrastinate_job_status, delete_job boolean
) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    place text;
BEGIN
    GET DIAGNOSTICS place = PG_CONTEXT;
    place := substring(split_part(place, chr(10), 1) FROM '("([^"]|"")+"|[a-z_][a-z0-9_]*)[.]procrastinate_finish_job_v1[(]');
    PERFORM set_config('search_path', concat_ws(
        ', ', job_type.typnamespace::regnamespace, place, nullif(current_setting('search_path'), '')
    ), true)
    FROM pg_proc AS function JOIN pg_type AS job_type ON job_type.oid = function.prorettype
    WHERE function.oid = to_regprocedure(concat(place || '.', 'procrastinate_fetch_job_v2(varchar[], bigint)'));
    IF end_status NOT IN ('succeeded', 'failed', 'aborted') THEN
        RAISE 'Job % can not end as "%", only as "succeeded", "failed" or "aborted"', job_id, end_status;
    END IF;
    IF delete_job THEN
        DELETE FROM procrastinate_jobs AS job WHERE job.id = job_id AND job.status IN ('todo', 'doing');
    ELSE
        UPDATE procrastinate_jobs AS job SET
            status = end_status,
            attempts = job.attempts + (job.status = 'doing')::integer,
            abort_requested = false,
            readiness = 0
        WHERE job.id = job_id AND job.status IN ('todo', 'doing');
    END IF;
    IF NOT FOUND THEN
        RAISE 'Job % can not be finished: it does not exist, or is not in "doing" or "todo" status', job_id;
    END IF;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_register_worker_v1() RETURNS TABLE (worker_id bigint)
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
DECLARE
    place text;
BEGIN
    GET DIAGNOSTICS place = PG_CONTEXT;
    place := substring(split_part(place, chr(10), 1) FROM '("([^"]|"")+"|[a-z_][a-z0-9_]*)[.]procrastinate_register_worker_v1[(]');
    PERFORM set_config('search_path', concat_ws(
        ', ', job_type.typnamespace::regnamespace, place, nullif(current_setting('search_path'), '')
    ), true)
    FROM pg_proc AS function JOIN pg_type AS job_type ON job_type.oid = function.prorettype
    WHERE function.oid = to_regprocedure(concat(place || '.', 'procrastinate_fetch_job_v2(varchar[], bigint)'));
    RETURN QUERY
    INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_update_heartbeat_v1(worker_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
DECLARE
    place text;
BEGIN
    GET DIAGNOSTICS place = PG_CONTEXT;
    place := substring(split_part(place, chr(10), 1) FROM '("([^"]|"")+"|[a-z_][a-z0-9_]*)[.]procrastinate_update_heartbeat_v1[(]');
    PERFORM set_config('search_path', concat_ws(
        ', ', job_type.typnamespace::regnamespace, place, nullif(current_setting('search_path'), '')
    ), true)
    FROM pg_proc AS function JOIN pg_type AS job_type ON job_type.oid = function.prorettype
    WHERE function.oid = to_regprocedure(concat(place || '.', 'procrastinate_fetch_job_v2(varchar[], bigint)'));
    UPDATE procrastinate_workers SET last_heartbeat = now() WHERE id = $1;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_unregister_worker_v1(worker_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
DECLARE
    place text;
BEGIN
    GET DIAGNOSTICS place = PG_CONTEXT;
    place := substring(split_part(place, chr(10), 1) FROM '("([^"]|"")+"|[a-z_][a-z0-9_]*)[.]procrastinate_unregister_worker_v1[(]');
    PERFORM set_config('search_path', concat_ws(
        ', ', job_type.typnamespace::regnamespace, place, nullif(current_setting('search_path'), '')
    ), true)
    FROM pg_proc AS function JOIN pg_type AS job_type ON job_type.oid = function.prorettype
    WHERE function.oid = to_regprocedure(concat(place || '.', 'procrastinate_fetch_job_v2(varchar[], bigint)'));
    UPDATE procrastinate_jobs SET worker_id = NULL WHERE procrastinate_jobs.worker_id = $1 AND status = 'doing';
    DELETE FROM procrastinate_workers WHERE id = $1;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_prune_stalled_workers_v1(seconds_since_heartbeat double precision)
RETURNS TABLE (worker_id bigint)
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
DECLARE
    place text;
BEGIN
    GET DIAGNOSTICS place = PG_CONTEXT;
    place := substring(split_part(place, chr(10), 1) FROM '("([^"]|"")+"|[a-z_][a-z0-9_]*)[.]procrastinate_prune_stalled_workers_v1[(]');
    PERFORM set_config('search_path', concat_ws(
        ', ', job_type.typnamespace::regnamespace, place, nullif(current_setting('search_path'), '')
    ), true)
    FROM pg_proc AS function JOIN pg_type AS job_type ON job_type.oid = function.prorettype
    WHERE function.oid = to_regprocedure(concat(place || '.', 'procrastinate_fetch_job_v2(varchar[], bigint)'));
    RETURN QUERY
    WITH pruned AS (
        DELETE FROM procrastinate_workers
        WHERE extract(epoch FROM now()) - extract(epoch FROM last_heartbeat)
            > greatest(seconds_since_heartbeat, coalesce(stalled_timeout, 3600))
        RETURNING id
    ),
    orphaned AS (
        UPDATE procrastinate_jobs AS job SET worker_id = NULL FROM pruned
        WHERE job.worker_id = pruned.id AND job.status = 'doing'
    )
    SELECT id FROM pruned;
END
$function$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0007' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0006';""",
]

BACKWARD = [
r"""DO $do$
BEGIN
    IF to_regproc('procrastinate_fetch_job_v2_of_3x') IS NOT NULL THEN
        RAISE 'These tables were upgraded from Procrastinate 3.x. To go back to it, run `procrastinate schema '
            '--revert-to-3x`';
    END IF;
END
$do$;""",
r"""DROP FUNCTION procrastinate_defer_jobs_v1(procrastinate_job_to_defer_v1[]);""",
r"""DROP FUNCTION procrastinate_cancel_job_v1(bigint, boolean, boolean);""",
r"""DROP FUNCTION procrastinate_retry_job_v2(bigint, timestamptz, integer, varchar, varchar);""",
r"""DROP FUNCTION procrastinate_retry_job_v1(bigint, timestamptz, integer, varchar, varchar);""",
r"""DROP FUNCTION procrastinate_defer_periodic_job_v2(varchar, varchar, varchar, varchar, integer, varchar, bigint, jsonb);""",
r"""DROP FUNCTION procrastinate_fetch_job_v2(varchar[], bigint);""",
r"""DROP FUNCTION procrastinate_finish_job_v1(bigint, procrastinate_job_status, boolean);""",
r"""DROP FUNCTION procrastinate_register_worker_v1();""",
r"""DROP FUNCTION procrastinate_update_heartbeat_v1(bigint);""",
r"""DROP FUNCTION procrastinate_unregister_worker_v1(bigint);""",
r"""DROP FUNCTION procrastinate_prune_stalled_workers_v1(double precision);""",
r"""DROP TYPE procrastinate_job_to_defer_v1;""",
r"""ALTER INDEX procrastinate_jobs_queueing_lock_idx_v1 RENAME TO procrastinate_jobs_queueing_lock_idx;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0006' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0007';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1006_kept_together')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0007'),

    ]
