# Generated from the Alembic revision procrastinate_0019: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""CREATE TABLE procrastinate_hold_offs (
    limit_name TEXT NOT NULL,
    limit_key TEXT NOT NULL,
    until TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (limit_name, limit_key)
);""",
r"""DO $do$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT class.relname, coalesce(quote_ident(grantee.rolname), 'PUBLIC') AS role
        FROM pg_class AS class
        CROSS JOIN aclexplode(class.relacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE privilege.grantee <> class.relowner AND (
            (class.oid = 'procrastinate_limits'::regclass AND privilege.privilege_type = 'SELECT')
            OR (class.oid = 'procrastinate_workers'::regclass AND privilege.privilege_type = 'INSERT')
        )
    LOOP
        EXECUTE format('GRANT SELECT ON procrastinate_hold_offs TO %s', granted.role);
        IF granted.relname = 'procrastinate_workers' THEN
            EXECUTE format('GRANT INSERT, UPDATE, DELETE ON procrastinate_hold_offs TO %s', granted.role);
        END IF;
    END LOOP;
END
$do$;""",
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
r"""CREATE OR REPLACE FUNCTION procrastinate_hand_over(
    queue_name text, job_id bigint, limit_names text[], limit_keys text[], may_be_paused boolean
) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    is_awaited boolean;
BEGIN
    WITH freed AS MATERIALIZED (
        SELECT one.name, one.key, count(*) AS number
        FROM unnest(limit_names, limit_keys) AS one (name, key)
        GROUP BY one.name, one.key
    ),
    room AS MATERIALIZED (
        SELECT
            freed.name, freed.key, freed.number, total.number IS NOT NULL AS has_total,
            CASE
                WHEN total.number IS NULL AND NOT may_be_paused
                THEN greatest(least(freed.number, own.number - taken.number), 0)
                ELSE 0
            END AS free
        FROM freed
        LEFT JOIN procrastinate_limits AS defined ON defined.name = freed.name
        CROSS JOIN LATERAL (SELECT coalesce(defined.set_concurrency, defined.concurrency)) AS own (number)
        CROSS JOIN LATERAL (SELECT coalesce(defined.set_total, defined.total, CASE WHEN coalesce(defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates) IS NOT NULL OR defined.fair OR EXISTS (
            SELECT FROM procrastinate_hold_offs AS hold_off
            WHERE hold_off.limit_name = freed.name AND hold_off.limit_key = freed.key AND hold_off.until > clock_timestamp()
        ) THEN 2147483647 END)) AS total (number)
        CROSS JOIN LATERAL (
            SELECT count(*) AS number
            FROM procrastinate_jobs AS holder
            WHERE holder.limit_name IS NOT NULL
                AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                AND holder.limit_name = freed.name AND holder.limit_key = freed.key
        ) AS taken
    ),
    next AS MATERIALIZED (
        SELECT room.name, room.key, line.id, line.lock
        FROM room
        CROSS JOIN LATERAL (
            SELECT waiting.id, waiting.lock
            FROM procrastinate_jobs AS waiting
            WHERE waiting.limit_name = room.name AND waiting.limit_key = room.key
                AND waiting.status = 'todo' AND waiting.readiness = 3
            ORDER BY waiting.priority DESC, waiting.id
            LIMIT room.free
            FOR UPDATE SKIP LOCKED
        ) AS line
    ),
    given AS (
        UPDATE procrastinate_jobs AS job SET readiness = 1 FROM next WHERE job.id = next.id AND next.lock IS NULL
    ),
    opened AS (
        INSERT INTO procrastinate_openings (limit_name, limit_key)
        SELECT room.name, room.key
        FROM room
        WHERE room.number > (
            SELECT count(*) FROM next WHERE next.name = room.name AND next.key = room.key AND next.lock IS NULL
        )
        RETURNING limit_name, limit_key
    )
    SELECT bool_or(
        EXISTS (SELECT FROM next WHERE next.name = room.name AND next.key = room.key AND next.lock IS NOT NULL)
        OR ((room.has_total OR may_be_paused) AND EXISTS (
            SELECT FROM procrastinate_jobs AS waiting
            WHERE waiting.limit_name = room.name AND waiting.status = 'todo' AND waiting.readiness = 3
        ))
    )
    INTO is_awaited
    FROM opened JOIN room ON room.name = opened.limit_name AND room.key = opened.limit_key;

    IF is_awaited THEN
        PERFORM procrastinate_notify_waiting(queue_name, job_id, true, 1);
    END IF;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_updated() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_nestloop = off
AS $function$
DECLARE
    released text[];
    undated bigint[];
    stale bigint[];
    forced bigint[];
    held text[];
    left_names text[];
    left_keys text[];
    one_id bigint;
    one_queue text;
    has_line boolean;
    has_start boolean;
    returned bigint[];
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
            job.limit_name, job.limit_key, was.limit_name AS was_limit_name, was.limit_key AS was_limit_key,
            was.status = 'doing' OR (was.status = 'todo' AND was.readiness = 1) AS was_holder,
            was.limit_name IS NOT NULL
                AND (was.status = 'doing' OR (was.status = 'todo' AND was.readiness = 1))
                AND NOT (
                    (job.status = 'doing' OR (job.status = 'todo' AND job.readiness IN (1, 3)))
                    AND (job.limit_name, job.limit_key) IS NOT DISTINCT FROM (was.limit_name, was.limit_key)
                ) AS is_leaving,
            job.limit_name IS NOT NULL AND job.status = 'todo' AND job.readiness = 3 AS is_in_line,
            job.limit_name IS NOT NULL AND (was.status, job.status) = ('todo', 'doing') AS is_start,
            job.limit_name IS NOT NULL AND (was.status, job.status, job.readiness) = ('doing', 'todo', 1)
                AS is_returned,
            job.limit_name IS NOT NULL AND (was.status, was.readiness, job.status, job.readiness)
                = ('todo', 0, 'todo', 1) AS is_forced,
            job.status <> was.status AS is_moved,
            job.workflow_id,
            job.workflow_id IS NOT NULL
                AND was.status IN ('todo', 'doing', 'aborting')
                AND job.status NOT IN ('todo', 'doing', 'aborting') AS is_ended_member,
            job.scheduled_at IS DISTINCT FROM was.scheduled_at AS is_rescheduled,
            job.abort_requested AND NOT was.abort_requested AS is_abort_requested,
            job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting') AS is_undated,
            job.readiness NOT IN (5, 0, 1, 2, CASE WHEN job.limit_name IS NULL THEN 0 ELSE 3 END)
            OR (job.limit_name IS NOT NULL AND job.scheduled_at IS NULL AND job.status = 'todo') OR
            was.status = 'todo' AND job.status = 'todo' AND job.readiness <> 0 AND job.readiness = was.readiness
                AND (job.scheduled_at, job.lock, job.limit_name, job.limit_key)
                    IS DISTINCT FROM (was.scheduled_at, was.lock, was.limit_name, was.limit_key) AS is_stale,
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
            was.status, was.readiness, was.scheduled_at, was.lock, was.queue_name, was.abort_requested,
            was.limit_name, was.limit_key
        ) IS DISTINCT FROM (
            job.status, job.readiness, job.scheduled_at, job.lock, job.queue_name, job.abort_requested,
            job.limit_name, job.limit_key
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
            bool_or(is_in_line OR readiness = 0 AND (scheduled_at IS NOT NULL OR lock IS NOT NULL)),
            count(*)
        )
        FROM changed
        WHERE status = 'todo' AND readiness <> 2
        GROUP BY queue_name
    ),
    arrived AS (
        SELECT procrastinate_arrive(queue_name::text, array_agg(id), array_agg(DISTINCT workflow_id), '{}')
        FROM changed
        WHERE is_ended_member
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
        array_agg(id) FILTER (WHERE is_forced),
        array_agg(DISTINCT released_lock) FILTER (WHERE was_holder),
        array_agg(was_limit_name) FILTER (WHERE is_leaving),
        array_agg(was_limit_key) FILTER (WHERE is_leaving),
        bool_or(is_in_line),
        bool_or(is_start),
        array_agg(id) FILTER (WHERE is_returned),
        max(id),
        max(queue_name),
        (SELECT count(*) FROM woken) + (SELECT count(*) FROM arrived) + (SELECT count(*) FROM told)
    INTO released, undated, stale, forced, held, left_names, left_keys, has_line, has_start, returned, one_id, one_queue, notified
    FROM changed;

    -- Plain SQL that ends a job need not set finished_at, and plain SQL that reschedules one need not clear readiness.
    IF undated IS NOT NULL THEN
        UPDATE procrastinate_jobs SET finished_at = now() WHERE id = ANY (undated);
    END IF;
    IF stale IS NOT NULL THEN
        UPDATE procrastinate_jobs SET readiness = 0, scheduled_at = CASE WHEN limit_name IS NULL THEN scheduled_at ELSE coalesce(scheduled_at, now()) END WHERE id = ANY (stale);
    END IF;

    IF has_start AND NOT is_restoring THEN
        INSERT INTO procrastinate_starts (limit_name, limit_key, at)
        SELECT job.limit_name, job.limit_key, clock_timestamp()
        FROM before_update AS was
        JOIN after_update AS job ON job.id = was.id
        JOIN procrastinate_limits AS defined ON defined.name = job.limit_name
        WHERE (was.status, job.status) = ('todo', 'doing') AND coalesce(defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates) IS NOT NULL;
    END IF;
    IF returned IS NOT NULL THEN
        UPDATE procrastinate_jobs AS job SET readiness = 3, scheduled_at = coalesce(job.scheduled_at, now())
        FROM procrastinate_limits AS defined
        WHERE job.id = ANY (returned) AND defined.name = job.limit_name AND (coalesce(defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates) IS NOT NULL OR EXISTS (
            SELECT FROM procrastinate_hold_offs AS hold_off
            WHERE hold_off.limit_name = job.limit_name AND hold_off.limit_key = job.limit_key AND hold_off.until > clock_timestamp()
        ));
    END IF;
    IF released IS NOT NULL OR left_names IS NOT NULL THEN
        PERFORM procrastinate_leave(one_queue, one_id, released, held, left_names, left_keys);
    END IF;
    IF forced IS NOT NULL THEN
        UPDATE procrastinate_jobs SET readiness = 3 WHERE id = ANY (forced);
    END IF;
    IF has_line AND has_table_privilege('procrastinate_openings', 'INSERT') THEN
        INSERT INTO procrastinate_openings (limit_name, limit_key)
        SELECT DISTINCT job.limit_name, job.limit_key
        FROM after_update AS job
        WHERE job.status = 'todo' AND job.readiness = 3 AND job.limit_name IS NOT NULL;
    END IF;
    RETURN NULL;
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
    FOREACH part IN ARRAY ARRAY['hold_offs', 'starts', 'windows', 'openings', 'job_reports', 'uniques', 'workflows', 'dependencies', 'arrivals', 'events', 'results', 'errors', 'periodic_defers'] LOOP
        IF pg_relation_size(format('procrastinate_%s', part)::regclass) > 0 THEN
            EXECUTE format('TRUNCATE procrastinate_%s', part);
        END IF;
    END LOOP;
    RETURN NULL;
END
$function$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0019' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0018';""",
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
r"""CREATE OR REPLACE FUNCTION procrastinate_hand_over(
    queue_name text, job_id bigint, limit_names text[], limit_keys text[], may_be_paused boolean
) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    is_awaited boolean;
BEGIN
    WITH freed AS MATERIALIZED (
        SELECT one.name, one.key, count(*) AS number
        FROM unnest(limit_names, limit_keys) AS one (name, key)
        GROUP BY one.name, one.key
    ),
    room AS MATERIALIZED (
        SELECT
            freed.name, freed.key, freed.number, total.number IS NOT NULL AS has_total,
            CASE
                WHEN total.number IS NULL AND NOT may_be_paused
                THEN greatest(least(freed.number, own.number - taken.number), 0)
                ELSE 0
            END AS free
        FROM freed
        LEFT JOIN procrastinate_limits AS defined ON defined.name = freed.name
        CROSS JOIN LATERAL (SELECT coalesce(defined.set_concurrency, defined.concurrency)) AS own (number)
        CROSS JOIN LATERAL (SELECT coalesce(defined.set_total, defined.total, CASE WHEN coalesce(defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates) IS NOT NULL OR defined.fair THEN 2147483647 END)) AS total (number)
        CROSS JOIN LATERAL (
            SELECT count(*) AS number
            FROM procrastinate_jobs AS holder
            WHERE holder.limit_name IS NOT NULL
                AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                AND holder.limit_name = freed.name AND holder.limit_key = freed.key
        ) AS taken
    ),
    next AS MATERIALIZED (
        SELECT room.name, room.key, line.id, line.lock
        FROM room
        CROSS JOIN LATERAL (
            SELECT waiting.id, waiting.lock
            FROM procrastinate_jobs AS waiting
            WHERE waiting.limit_name = room.name AND waiting.limit_key = room.key
                AND waiting.status = 'todo' AND waiting.readiness = 3
            ORDER BY waiting.priority DESC, waiting.id
            LIMIT room.free
            FOR UPDATE SKIP LOCKED
        ) AS line
    ),
    given AS (
        UPDATE procrastinate_jobs AS job SET readiness = 1 FROM next WHERE job.id = next.id AND next.lock IS NULL
    ),
    opened AS (
        INSERT INTO procrastinate_openings (limit_name, limit_key)
        SELECT room.name, room.key
        FROM room
        WHERE room.number > (
            SELECT count(*) FROM next WHERE next.name = room.name AND next.key = room.key AND next.lock IS NULL
        )
        RETURNING limit_name, limit_key
    )
    SELECT bool_or(
        EXISTS (SELECT FROM next WHERE next.name = room.name AND next.key = room.key AND next.lock IS NOT NULL)
        OR ((room.has_total OR may_be_paused) AND EXISTS (
            SELECT FROM procrastinate_jobs AS waiting
            WHERE waiting.limit_name = room.name AND waiting.status = 'todo' AND waiting.readiness = 3
        ))
    )
    INTO is_awaited
    FROM opened JOIN room ON room.name = opened.limit_name AND room.key = opened.limit_key;

    IF is_awaited THEN
        PERFORM procrastinate_notify_waiting(queue_name, job_id, true, 1);
    END IF;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_updated() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_nestloop = off
AS $function$
DECLARE
    released text[];
    undated bigint[];
    stale bigint[];
    forced bigint[];
    held text[];
    left_names text[];
    left_keys text[];
    one_id bigint;
    one_queue text;
    has_line boolean;
    has_start boolean;
    returned bigint[];
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
            job.limit_name, job.limit_key, was.limit_name AS was_limit_name, was.limit_key AS was_limit_key,
            was.status = 'doing' OR (was.status = 'todo' AND was.readiness = 1) AS was_holder,
            was.limit_name IS NOT NULL
                AND (was.status = 'doing' OR (was.status = 'todo' AND was.readiness = 1))
                AND NOT (
                    (job.status = 'doing' OR (job.status = 'todo' AND job.readiness IN (1, 3)))
                    AND (job.limit_name, job.limit_key) IS NOT DISTINCT FROM (was.limit_name, was.limit_key)
                ) AS is_leaving,
            job.limit_name IS NOT NULL AND job.status = 'todo' AND job.readiness = 3 AS is_in_line,
            job.limit_name IS NOT NULL AND (was.status, job.status) = ('todo', 'doing') AS is_start,
            job.limit_name IS NOT NULL AND (was.status, job.status, job.readiness) = ('doing', 'todo', 1)
                AS is_returned,
            job.limit_name IS NOT NULL AND (was.status, was.readiness, job.status, job.readiness)
                = ('todo', 0, 'todo', 1) AS is_forced,
            job.status <> was.status AS is_moved,
            job.workflow_id,
            job.workflow_id IS NOT NULL
                AND was.status IN ('todo', 'doing', 'aborting')
                AND job.status NOT IN ('todo', 'doing', 'aborting') AS is_ended_member,
            job.scheduled_at IS DISTINCT FROM was.scheduled_at AS is_rescheduled,
            job.abort_requested AND NOT was.abort_requested AS is_abort_requested,
            job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting') AS is_undated,
            job.readiness NOT IN (5, 0, 1, 2, CASE WHEN job.limit_name IS NULL THEN 0 ELSE 3 END)
            OR (job.limit_name IS NOT NULL AND job.scheduled_at IS NULL AND job.status = 'todo') OR
            was.status = 'todo' AND job.status = 'todo' AND job.readiness <> 0 AND job.readiness = was.readiness
                AND (job.scheduled_at, job.lock, job.limit_name, job.limit_key)
                    IS DISTINCT FROM (was.scheduled_at, was.lock, was.limit_name, was.limit_key) AS is_stale,
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
            was.status, was.readiness, was.scheduled_at, was.lock, was.queue_name, was.abort_requested,
            was.limit_name, was.limit_key
        ) IS DISTINCT FROM (
            job.status, job.readiness, job.scheduled_at, job.lock, job.queue_name, job.abort_requested,
            job.limit_name, job.limit_key
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
            bool_or(is_in_line OR readiness = 0 AND (scheduled_at IS NOT NULL OR lock IS NOT NULL)),
            count(*)
        )
        FROM changed
        WHERE status = 'todo' AND readiness <> 2
        GROUP BY queue_name
    ),
    arrived AS (
        SELECT procrastinate_arrive(queue_name::text, array_agg(id), array_agg(DISTINCT workflow_id), '{}')
        FROM changed
        WHERE is_ended_member
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
        array_agg(id) FILTER (WHERE is_forced),
        array_agg(DISTINCT released_lock) FILTER (WHERE was_holder),
        array_agg(was_limit_name) FILTER (WHERE is_leaving),
        array_agg(was_limit_key) FILTER (WHERE is_leaving),
        bool_or(is_in_line),
        bool_or(is_start),
        array_agg(id) FILTER (WHERE is_returned),
        max(id),
        max(queue_name),
        (SELECT count(*) FROM woken) + (SELECT count(*) FROM arrived) + (SELECT count(*) FROM told)
    INTO released, undated, stale, forced, held, left_names, left_keys, has_line, has_start, returned, one_id, one_queue, notified
    FROM changed;

    -- Plain SQL that ends a job need not set finished_at, and plain SQL that reschedules one need not clear readiness.
    IF undated IS NOT NULL THEN
        UPDATE procrastinate_jobs SET finished_at = now() WHERE id = ANY (undated);
    END IF;
    IF stale IS NOT NULL THEN
        UPDATE procrastinate_jobs SET readiness = 0, scheduled_at = CASE WHEN limit_name IS NULL THEN scheduled_at ELSE coalesce(scheduled_at, now()) END WHERE id = ANY (stale);
    END IF;

    IF has_start AND NOT is_restoring THEN
        INSERT INTO procrastinate_starts (limit_name, limit_key, at)
        SELECT job.limit_name, job.limit_key, clock_timestamp()
        FROM before_update AS was
        JOIN after_update AS job ON job.id = was.id
        JOIN procrastinate_limits AS defined ON defined.name = job.limit_name
        WHERE (was.status, job.status) = ('todo', 'doing') AND coalesce(defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates) IS NOT NULL;
    END IF;
    IF returned IS NOT NULL THEN
        UPDATE procrastinate_jobs AS job SET readiness = 3, scheduled_at = coalesce(job.scheduled_at, now())
        FROM procrastinate_limits AS defined
        WHERE job.id = ANY (returned) AND defined.name = job.limit_name AND coalesce(defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates) IS NOT NULL;
    END IF;
    IF released IS NOT NULL OR left_names IS NOT NULL THEN
        PERFORM procrastinate_leave(one_queue, one_id, released, held, left_names, left_keys);
    END IF;
    IF forced IS NOT NULL THEN
        UPDATE procrastinate_jobs SET readiness = 3 WHERE id = ANY (forced);
    END IF;
    IF has_line AND has_table_privilege('procrastinate_openings', 'INSERT') THEN
        INSERT INTO procrastinate_openings (limit_name, limit_key)
        SELECT DISTINCT job.limit_name, job.limit_key
        FROM after_update AS job
        WHERE job.status = 'todo' AND job.readiness = 3 AND job.limit_name IS NOT NULL;
    END IF;
    RETURN NULL;
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
    FOREACH part IN ARRAY ARRAY['starts', 'windows', 'openings', 'job_reports', 'uniques', 'workflows', 'dependencies', 'arrivals', 'events', 'results', 'errors', 'periodic_defers'] LOOP
        IF pg_relation_size(format('procrastinate_%s', part)::regclass) > 0 THEN
            EXECUTE format('TRUNCATE procrastinate_%s', part);
        END IF;
    END LOOP;
    RETURN NULL;
END
$function$;""",
r"""DROP TABLE procrastinate_hold_offs;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0018' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0019';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1018_turns')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0019'),

    ]
