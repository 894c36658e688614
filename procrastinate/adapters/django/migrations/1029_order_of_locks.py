# Generated from the Alembic revision procrastinate_0029: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""CREATE OR REPLACE FUNCTION procrastinate_leave(
    queue_name text, job_id bigint, released text[], held text[], limit_names text[], limit_keys text[], limit_weights integer[]
) RETURNS void
LANGUAGE plpgsql
SET enable_nestloop = on SET enable_hashjoin = off SET enable_mergejoin = off
AS $function$
DECLARE
    hands_over boolean := current_setting('procrastinate.hand_over', true) IS DISTINCT FROM 'off';
    may_be_paused boolean := true;
    passed_by text[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' OR NOT hands_over THEN
        IF has_table_privilege('procrastinate_openings', 'INSERT') THEN
            INSERT INTO procrastinate_openings (lock)
            SELECT freed.lock FROM unnest(released) AS freed (lock) WHERE hands_over;
            INSERT INTO procrastinate_openings (limit_name, limit_key)
            SELECT DISTINCT freed.name, freed.key FROM unnest(limit_names, limit_keys) AS freed (name, key);
            PERFORM procrastinate_notify_waiting(queue_name, job_id, true, 1);
        END IF;
        RETURN;
    END IF;

    IF has_table_privilege('procrastinate_paused_queues', 'SELECT') THEN
        SELECT EXISTS (
            SELECT FROM procrastinate_paused_queues WHERE paused_until IS NULL OR paused_until > now()
        ) INTO may_be_paused;
    END IF;

    IF released IS NOT NULL THEN
        WITH changed AS (
            UPDATE procrastinate_jobs AS job SET readiness = CASE
                WHEN NOT may_be_paused AND job.limit_name IS NULL AND job.lock = ANY (held) AND NOT of_lock.is_held
                THEN 1 ELSE 0
            END
            FROM unnest(released) AS freed (lock)
            CROSS JOIN LATERAL (
                SELECT EXISTS (
                    SELECT FROM procrastinate_jobs AS holder
                    WHERE holder.lock = freed.lock
                        AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                ) AS is_held
                OFFSET 0
            ) AS of_lock
            CROSS JOIN LATERAL (
                SELECT parked.id
                FROM (
                    SELECT waiting.id
                    FROM procrastinate_jobs AS waiting
                    WHERE NOT of_lock.is_held
                        AND waiting.lock = freed.lock AND waiting.status = 'todo' AND waiting.readiness = 2
                    ORDER BY waiting.priority DESC, waiting.id
                    LIMIT 1
                    FOR UPDATE SKIP LOCKED
                ) AS parked
                UNION ALL
                SELECT parked.id
                FROM (
                    SELECT waiting.id
                    FROM procrastinate_jobs AS waiting
                    WHERE of_lock.is_held
                        AND waiting.lock = freed.lock AND waiting.status = 'todo' AND waiting.readiness = 2
                    ORDER BY waiting.priority, waiting.id DESC
                    LIMIT 1
                    FOR UPDATE SKIP LOCKED
                ) AS parked
            ) AS next
            WHERE job.id = next.id
            RETURNING job.lock, job.limit_name
        )
        SELECT array_agg(changed.lock) INTO passed_by FROM changed WHERE changed.limit_name IS NOT NULL;
    END IF;
    IF passed_by IS NOT NULL AND has_table_privilege('procrastinate_openings', 'INSERT') THEN
        INSERT INTO procrastinate_openings (lock) SELECT passed.lock FROM unnest(passed_by) AS passed (lock);
    END IF;

    IF limit_names IS NOT NULL
        AND has_table_privilege('procrastinate_openings', 'INSERT')
        AND has_table_privilege('procrastinate_limits', 'SELECT')
    THEN
        BEGIN
            PERFORM procrastinate_hand_over(
                queue_name, job_id, limit_names, limit_keys, limit_weights,
                may_be_paused OR current_setting('procrastinate.hand_over_slots', true) IS NOT DISTINCT FROM 'off'
            );
        EXCEPTION WHEN OTHERS THEN
            INSERT INTO procrastinate_openings (limit_name, limit_key)
            SELECT DISTINCT freed.name, freed.key FROM unnest(limit_names, limit_keys) AS freed (name, key);
            PERFORM procrastinate_notify_waiting(queue_name, job_id, true, 1);
            IF SQLSTATE NOT IN ('P0001', '40001', '40P01', '55P03') AND left(SQLSTATE, 2) <> '23' THEN
                RAISE WARNING 'No slot was handed on, so an admission gives it away: %', SQLERRM
                    USING ERRCODE = SQLSTATE;
            END IF;
        END;
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
    left_weights integer[];
    admitted bigint[];
    one_id bigint;
    one_queue text;
    has_line boolean;
    has_start boolean;
    is_moving boolean;
    returned bigint[];
    notified bigint;
    is_restoring boolean;
    kind text;
    has_limit boolean;
BEGIN
    SELECT CASE
        WHEN NOT EXISTS (SELECT FROM after_update)
        THEN 'none'
        WHEN NOT EXISTS (
                SELECT FROM before_update AS was
                WHERE NOT (was.status = 'todo' AND was.lock IS NULL AND was.limit_name IS NULL)
            )
            AND NOT EXISTS (
                SELECT FROM after_update AS job
                WHERE NOT (
                    job.status = 'doing'
                    AND job.lock IS NULL AND job.limit_name IS NULL AND job.readiness IN (0, 1, 2, 5)
                    AND NOT job.abort_requested
                )
            )
        THEN 'plain'
        WHEN NOT EXISTS (
                SELECT FROM before_update AS was
                WHERE NOT (was.status = 'doing' AND was.lock IS NULL AND was.limit_name IS NULL)
            )
            AND NOT EXISTS (
                SELECT FROM after_update AS job
                WHERE NOT (
                    job.status NOT IN ('todo', 'doing', 'aborting') AND job.finished_at IS NOT NULL
                    AND job.workflow_id IS NULL
                    AND job.lock IS NULL AND job.limit_name IS NULL AND job.readiness IN (0, 1, 2, 5)
                    AND NOT job.abort_requested
                )
            )
        THEN 'plain'
        ELSE 'other'
    END
    INTO kind;
    IF kind = 'none' THEN
        RETURN NULL;
    END IF;
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    is_restoring := procrastinate_is_restoring();
    IF kind = 'other' THEN
        SELECT
            CASE
                WHEN NOT EXISTS (SELECT FROM before_update AS was WHERE NOT (was.status = 'doing'))
            AND NOT EXISTS (SELECT FROM after_update AS job WHERE NOT (job.status NOT IN ('todo', 'doing', 'aborting') AND job.finished_at IS NOT NULL
                AND job.workflow_id IS NULL AND job.readiness IN (0, 1, 2, 5) AND NOT job.abort_requested))
                THEN 'ended'
                WHEN NOT EXISTS (SELECT FROM before_update AS was WHERE NOT (was.status = 'todo' AND (was.limit_name IS NULL OR was.readiness = 1)))
            AND NOT EXISTS (SELECT FROM after_update AS job WHERE NOT (job.status = 'doing' AND job.readiness IN (0, 1, 2, 5) AND NOT job.abort_requested))
                AND NOT EXISTS (
                SELECT FROM before_update AS was
                JOIN after_update AS job ON job.id = was.id
                WHERE (
                    was.lock, was.scheduled_at, was.limit_name, was.limit_key, greatest(was.limit_weight, 1)
                ) IS DISTINCT FROM (
                    job.lock, job.scheduled_at, job.limit_name, job.limit_key, greatest(job.limit_weight, 1)
                )
            )
                THEN 'started'
                WHEN NOT EXISTS (SELECT FROM before_update AS was WHERE NOT (was.status = 'todo' AND CASE
                WHEN was.limit_name IS NULL THEN was.readiness IN (0, 2)
                ELSE was.readiness = 3 AND was.scheduled_at IS NOT NULL AND pg_trigger_depth() > 1
            END))
            AND NOT EXISTS (SELECT FROM after_update AS job WHERE NOT (job.status = 'todo' AND CASE
                WHEN job.limit_name IS NULL THEN job.readiness IN (1, 2)
                ELSE job.readiness = 1
            END AND NOT job.abort_requested))
                AND NOT EXISTS (
                SELECT FROM before_update AS was
                JOIN after_update AS job ON job.id = was.id
                WHERE (
                    was.lock, was.scheduled_at, was.limit_name, was.limit_key, greatest(was.limit_weight, 1)
                ) IS DISTINCT FROM (
                    job.lock, job.scheduled_at, job.limit_name, job.limit_key, greatest(job.limit_weight, 1)
                )
            )
                THEN 'chosen'
                ELSE 'other'
            END,
            EXISTS (SELECT FROM after_update AS job WHERE job.limit_name IS NOT NULL)
        INTO kind, has_limit;
    END IF;
    IF kind = 'chosen' THEN
        PERFORM procrastinate_notify_waiting(job.queue_name::text, max(job.id), false, count(*))
        FROM after_update AS job
        WHERE job.readiness = 1
        GROUP BY job.queue_name;
        RETURN NULL;
    END IF;
    IF kind IN ('plain', 'started', 'ended') THEN
        IF NOT is_restoring THEN
            INSERT INTO procrastinate_events (job_id, type, at)
            SELECT
                job.id,
                CASE job.status WHEN 'doing' THEN 'started' ELSE job.status::text END::procrastinate_job_event_type,
                now()
            FROM after_update AS job;
        END IF;
        IF kind = 'plain' OR (kind = 'started' AND NOT has_limit) THEN
            RETURN NULL;
        END IF;
    END IF;
    IF kind = 'started' THEN
        has_start := true;
    ELSIF kind = 'ended' THEN
        SELECT
            array_agg(DISTINCT was.lock) FILTER (WHERE was.lock IS NOT NULL),
            array_agg(DISTINCT was.lock) FILTER (WHERE was.lock IS NOT NULL),
            array_agg(was.limit_name) FILTER (WHERE was.limit_name IS NOT NULL),
            array_agg(was.limit_key) FILTER (WHERE was.limit_name IS NOT NULL),
            array_agg(greatest(was.limit_weight, 1)) FILTER (WHERE was.limit_name IS NOT NULL),
            max(was.id),
            max(was.queue_name)
        INTO released, held, left_names, left_keys, left_weights, one_id, one_queue
        FROM before_update AS was;
    ELSE
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
                    AND (job.limit_name, job.limit_key, greatest(job.limit_weight, 1))
                        IS NOT DISTINCT FROM (was.limit_name, was.limit_key, greatest(was.limit_weight, 1))
                ) AS is_leaving,
            job.limit_name IS NOT NULL AND job.status = 'todo' AND job.readiness = 3
                AND current_setting('procrastinate.weights', true) IS DISTINCT FROM 'unknown' AS is_in_line,
            job.limit_name IS NOT NULL AND (was.status, was.readiness, job.status, job.readiness)
                = ('todo', 3, 'todo', 1) AS is_admitted,
            was.limit_weight AS was_limit_weight,
            job.limit_name IS NOT NULL AND (job.status = 'doing' OR (job.status = 'todo' AND job.readiness = 1))
                AND CASE
                    WHEN (was.status = 'doing' OR (was.status = 'todo' AND was.readiness = 1))
                    THEN (job.limit_name, job.limit_key, greatest(job.limit_weight, 1))
                        IS DISTINCT FROM (was.limit_name, was.limit_key, greatest(was.limit_weight, 1))
                    ELSE job.status = 'doing'
                END AS is_moved_to_slot,
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
                AND (
                    (job.scheduled_at, job.lock, job.limit_name, job.limit_key)
                        IS DISTINCT FROM (was.scheduled_at, was.lock, was.limit_name, was.limit_key)
                    OR (
                        job.limit_name IS NOT NULL AND job.readiness IN (1, 3)
                        AND greatest(job.limit_weight, 1) <> greatest(was.limit_weight, 1)
                    )
                ) AS is_stale,
            CASE
                WHEN (was.status = 'doing' OR (was.status = 'todo' AND was.readiness <> 2))
                    AND (
                        job.lock IS DISTINCT FROM was.lock
                        OR job.status NOT IN ('todo', 'doing')
                        OR (job.status = 'todo' AND was.status = 'doing')
                        OR job.scheduled_at IS DISTINCT FROM was.scheduled_at
                    )
                    AND NOT (
                        was.status = 'doing' AND job.status = 'todo' AND job.readiness IN (0, 1)
                        AND job.limit_name IS NULL
                        AND job.lock IS NOT DISTINCT FROM was.lock
                        AND job.scheduled_at IS NOT DISTINCT FROM was.scheduled_at
                        AND (job.scheduled_at IS NULL OR job.scheduled_at <= now())
                    )
                THEN was.lock
            END AS released_lock
        FROM before_update AS was
        JOIN after_update AS job ON job.id = was.id
        WHERE (
            was.status, was.readiness, was.scheduled_at, was.lock, was.queue_name, was.abort_requested,
            was.limit_name, was.limit_key, was.limit_weight
        ) IS DISTINCT FROM (
            job.status, job.readiness, job.scheduled_at, job.lock, job.queue_name, job.abort_requested,
            job.limit_name, job.limit_key, job.limit_weight
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
        array_agg(greatest(was_limit_weight, 1)) FILTER (WHERE is_leaving),
        array_agg(id) FILTER (WHERE is_admitted),
        bool_or(is_in_line),
        bool_or(is_start),
        bool_or(is_moved_to_slot),
        array_agg(id) FILTER (WHERE is_returned),
        max(id),
        max(queue_name),
        (SELECT count(*) FROM woken) + (SELECT count(*) FROM arrived) + (SELECT count(*) FROM told)
    INTO released, undated, stale, forced, held, left_names, left_keys, left_weights, admitted, has_line, has_start, is_moving, returned, one_id, one_queue, notified
    FROM changed;
    END IF;

    IF is_moving THEN
        PERFORM set_config('procrastinate.hand_over_slots', 'off', true);
    END IF;
    -- Plain SQL that ends a job need not set finished_at, and plain SQL that reschedules one need not clear readiness.
    IF undated IS NOT NULL THEN
        UPDATE procrastinate_jobs SET finished_at = now() WHERE id = ANY (undated);
    END IF;
    IF stale IS NOT NULL THEN
        UPDATE procrastinate_jobs SET readiness = 0, scheduled_at = CASE WHEN limit_name IS NULL THEN scheduled_at ELSE coalesce(scheduled_at, now()) END WHERE id = ANY (stale);
    END IF;

    IF has_start AND NOT is_restoring THEN
        INSERT INTO procrastinate_starts (limit_name, limit_key, at, weight)
        SELECT job.limit_name, job.limit_key, clock_timestamp(), job.limit_weight
        FROM before_update AS was
        JOIN after_update AS job ON job.id = was.id
        WHERE job.limit_name IS NOT NULL AND (was.status, job.status) = ('todo', 'doing')
            AND NOT EXISTS (
                SELECT FROM procrastinate_limits AS defined
                WHERE defined.name = job.limit_name
                    AND NOT (coalesce(defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates) IS NOT NULL)
                    AND coalesce(
                        defined.set_concurrency, defined.concurrency, defined.set_total, defined.total,
                        defined.fair::integer
                    ) IS NOT NULL
            );
    END IF;
    IF returned IS NOT NULL THEN
        UPDATE procrastinate_jobs AS job SET readiness = 3, scheduled_at = coalesce(job.scheduled_at, now())
        WHERE job.id = ANY (returned) AND (
            EXISTS (
                SELECT FROM procrastinate_limits AS defined
                WHERE defined.name = job.limit_name AND (
                    coalesce(defined.set_concurrency, defined.concurrency) < (
                        SELECT sum(greatest(holder.limit_weight, 1))
                        FROM procrastinate_jobs AS holder
                        WHERE holder.limit_name IS NOT NULL
                            AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                            AND holder.limit_name = job.limit_name AND holder.limit_key = job.limit_key
                    )
                    OR coalesce(defined.set_total, defined.total) < (
                        SELECT sum(greatest(holder.limit_weight, 1))
                        FROM procrastinate_jobs AS holder
                        WHERE holder.limit_name IS NOT NULL
                            AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                            AND holder.limit_name = job.limit_name
                    )
                )
            ) OR NOT EXISTS (
                SELECT FROM procrastinate_limits AS defined
                WHERE defined.name = job.limit_name
                    AND NOT (coalesce(defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates) IS NOT NULL)
                    AND coalesce(
                        defined.set_concurrency, defined.concurrency, defined.set_total, defined.total,
                        defined.fair::integer
                    ) IS NOT NULL
            ) OR EXISTS (
            SELECT FROM procrastinate_hold_offs AS hold_off
            WHERE hold_off.limit_name = job.limit_name AND hold_off.limit_key = job.limit_key AND hold_off.until > clock_timestamp()
        ));
    END IF;
    IF released IS NOT NULL OR left_names IS NOT NULL THEN
        PERFORM procrastinate_leave(one_queue, one_id, released, held, left_names, left_keys, left_weights);
    END IF;
    IF admitted IS NOT NULL AND pg_trigger_depth() = 1 AND current_setting('procrastinate.weights', true) IS DISTINCT FROM 'known' THEN
        PERFORM set_config('procrastinate.weights', 'unknown', true);
        UPDATE procrastinate_jobs AS job SET readiness = 3
        WHERE job.id = ANY (admitted) AND (
                EXISTS (
                    SELECT FROM procrastinate_jobs AS holder
                    WHERE holder.limit_name IS NOT NULL
                        AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                        AND holder.limit_name = job.limit_name AND holder.limit_weight > 1
                )
                OR EXISTS (
                    SELECT FROM procrastinate_starts AS start
                    WHERE start.limit_name = job.limit_name AND start.weight > 1
                )
            );
        PERFORM set_config('procrastinate.weights', '', true);
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
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0029' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0028';""",
]

BACKWARD = [
r"""CREATE OR REPLACE FUNCTION procrastinate_leave(
    queue_name text, job_id bigint, released text[], held text[], limit_names text[], limit_keys text[], limit_weights integer[]
) RETURNS void
LANGUAGE plpgsql
SET enable_nestloop = on SET enable_hashjoin = off SET enable_mergejoin = off
AS $function$
DECLARE
    hands_over boolean := current_setting('procrastinate.hand_over', true) IS DISTINCT FROM 'off';
    may_be_paused boolean := true;
    passed_by text[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' OR NOT hands_over THEN
        IF has_table_privilege('procrastinate_openings', 'INSERT') THEN
            INSERT INTO procrastinate_openings (lock)
            SELECT freed.lock FROM unnest(released) AS freed (lock) WHERE hands_over;
            INSERT INTO procrastinate_openings (limit_name, limit_key)
            SELECT DISTINCT freed.name, freed.key FROM unnest(limit_names, limit_keys) AS freed (name, key);
            PERFORM procrastinate_notify_waiting(queue_name, job_id, true, 1);
        END IF;
        RETURN;
    END IF;

    IF has_table_privilege('procrastinate_paused_queues', 'SELECT') THEN
        SELECT EXISTS (
            SELECT FROM procrastinate_paused_queues WHERE paused_until IS NULL OR paused_until > now()
        ) INTO may_be_paused;
    END IF;

    IF released IS NOT NULL THEN
        WITH changed AS (
            UPDATE procrastinate_jobs AS job SET readiness = CASE
                WHEN NOT may_be_paused AND job.limit_name IS NULL AND job.lock = ANY (held) AND NOT EXISTS (
                    SELECT FROM procrastinate_jobs AS holder
                    WHERE holder.lock = job.lock
                        AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                )
                THEN 1 ELSE 0
            END
            FROM unnest(released) AS freed (lock)
            CROSS JOIN LATERAL (
                SELECT waiting.id
                FROM procrastinate_jobs AS waiting
                WHERE waiting.lock = freed.lock AND waiting.status = 'todo' AND waiting.readiness = 2
                ORDER BY waiting.priority DESC, waiting.id
                LIMIT 1
                FOR UPDATE SKIP LOCKED
            ) AS next
            WHERE job.id = next.id
            RETURNING job.lock, job.limit_name
        )
        SELECT array_agg(changed.lock) INTO passed_by FROM changed WHERE changed.limit_name IS NOT NULL;
    END IF;
    IF passed_by IS NOT NULL AND has_table_privilege('procrastinate_openings', 'INSERT') THEN
        INSERT INTO procrastinate_openings (lock) SELECT passed.lock FROM unnest(passed_by) AS passed (lock);
    END IF;

    IF limit_names IS NOT NULL
        AND has_table_privilege('procrastinate_openings', 'INSERT')
        AND has_table_privilege('procrastinate_limits', 'SELECT')
    THEN
        BEGIN
            PERFORM procrastinate_hand_over(
                queue_name, job_id, limit_names, limit_keys, limit_weights,
                may_be_paused OR current_setting('procrastinate.hand_over_slots', true) IS NOT DISTINCT FROM 'off'
            );
        EXCEPTION WHEN OTHERS THEN
            INSERT INTO procrastinate_openings (limit_name, limit_key)
            SELECT DISTINCT freed.name, freed.key FROM unnest(limit_names, limit_keys) AS freed (name, key);
            PERFORM procrastinate_notify_waiting(queue_name, job_id, true, 1);
            IF SQLSTATE NOT IN ('P0001', '40001', '40P01', '55P03') AND left(SQLSTATE, 2) <> '23' THEN
                RAISE WARNING 'No slot was handed on, so an admission gives it away: %', SQLERRM
                    USING ERRCODE = SQLSTATE;
            END IF;
        END;
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
    left_weights integer[];
    admitted bigint[];
    one_id bigint;
    one_queue text;
    has_line boolean;
    has_start boolean;
    is_moving boolean;
    returned bigint[];
    notified bigint;
    is_restoring boolean;
    kind text;
    has_limit boolean;
BEGIN
    SELECT CASE
        WHEN NOT EXISTS (SELECT FROM after_update)
        THEN 'none'
        WHEN NOT EXISTS (
                SELECT FROM before_update AS was
                WHERE NOT (was.status = 'todo' AND was.lock IS NULL AND was.limit_name IS NULL)
            )
            AND NOT EXISTS (
                SELECT FROM after_update AS job
                WHERE NOT (
                    job.status = 'doing'
                    AND job.lock IS NULL AND job.limit_name IS NULL AND job.readiness IN (0, 1, 2, 5)
                    AND NOT job.abort_requested
                )
            )
        THEN 'plain'
        WHEN NOT EXISTS (
                SELECT FROM before_update AS was
                WHERE NOT (was.status = 'doing' AND was.lock IS NULL AND was.limit_name IS NULL)
            )
            AND NOT EXISTS (
                SELECT FROM after_update AS job
                WHERE NOT (
                    job.status NOT IN ('todo', 'doing', 'aborting') AND job.finished_at IS NOT NULL
                    AND job.workflow_id IS NULL
                    AND job.lock IS NULL AND job.limit_name IS NULL AND job.readiness IN (0, 1, 2, 5)
                    AND NOT job.abort_requested
                )
            )
        THEN 'plain'
        ELSE 'other'
    END
    INTO kind;
    IF kind = 'none' THEN
        RETURN NULL;
    END IF;
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    is_restoring := procrastinate_is_restoring();
    IF kind = 'other' THEN
        SELECT
            CASE
                WHEN NOT EXISTS (SELECT FROM before_update AS was WHERE NOT (was.status = 'doing'))
            AND NOT EXISTS (SELECT FROM after_update AS job WHERE NOT (job.status NOT IN ('todo', 'doing', 'aborting') AND job.finished_at IS NOT NULL
                AND job.workflow_id IS NULL AND job.readiness IN (0, 1, 2, 5) AND NOT job.abort_requested))
                THEN 'ended'
                WHEN NOT EXISTS (SELECT FROM before_update AS was WHERE NOT (was.status = 'todo' AND (was.limit_name IS NULL OR was.readiness = 1)))
            AND NOT EXISTS (SELECT FROM after_update AS job WHERE NOT (job.status = 'doing' AND job.readiness IN (0, 1, 2, 5) AND NOT job.abort_requested))
                AND NOT EXISTS (
                SELECT FROM before_update AS was
                JOIN after_update AS job ON job.id = was.id
                WHERE (
                    was.lock, was.scheduled_at, was.limit_name, was.limit_key, greatest(was.limit_weight, 1)
                ) IS DISTINCT FROM (
                    job.lock, job.scheduled_at, job.limit_name, job.limit_key, greatest(job.limit_weight, 1)
                )
            )
                THEN 'started'
                WHEN NOT EXISTS (SELECT FROM before_update AS was WHERE NOT (was.status = 'todo' AND CASE
                WHEN was.limit_name IS NULL THEN was.readiness IN (0, 2)
                ELSE was.readiness = 3 AND was.scheduled_at IS NOT NULL AND pg_trigger_depth() > 1
            END))
            AND NOT EXISTS (SELECT FROM after_update AS job WHERE NOT (job.status = 'todo' AND CASE
                WHEN job.limit_name IS NULL THEN job.readiness IN (1, 2)
                ELSE job.readiness = 1
            END AND NOT job.abort_requested))
                AND NOT EXISTS (
                SELECT FROM before_update AS was
                JOIN after_update AS job ON job.id = was.id
                WHERE (
                    was.lock, was.scheduled_at, was.limit_name, was.limit_key, greatest(was.limit_weight, 1)
                ) IS DISTINCT FROM (
                    job.lock, job.scheduled_at, job.limit_name, job.limit_key, greatest(job.limit_weight, 1)
                )
            )
                THEN 'chosen'
                ELSE 'other'
            END,
            EXISTS (SELECT FROM after_update AS job WHERE job.limit_name IS NOT NULL)
        INTO kind, has_limit;
    END IF;
    IF kind = 'chosen' THEN
        PERFORM procrastinate_notify_waiting(job.queue_name::text, max(job.id), false, count(*))
        FROM after_update AS job
        WHERE job.readiness = 1
        GROUP BY job.queue_name;
        RETURN NULL;
    END IF;
    IF kind IN ('plain', 'started', 'ended') THEN
        IF NOT is_restoring THEN
            INSERT INTO procrastinate_events (job_id, type, at)
            SELECT
                job.id,
                CASE job.status WHEN 'doing' THEN 'started' ELSE job.status::text END::procrastinate_job_event_type,
                now()
            FROM after_update AS job;
        END IF;
        IF kind = 'plain' OR (kind = 'started' AND NOT has_limit) THEN
            RETURN NULL;
        END IF;
    END IF;
    IF kind = 'started' THEN
        has_start := true;
    ELSIF kind = 'ended' THEN
        SELECT
            array_agg(DISTINCT was.lock) FILTER (WHERE was.lock IS NOT NULL),
            array_agg(DISTINCT was.lock) FILTER (WHERE was.lock IS NOT NULL),
            array_agg(was.limit_name) FILTER (WHERE was.limit_name IS NOT NULL),
            array_agg(was.limit_key) FILTER (WHERE was.limit_name IS NOT NULL),
            array_agg(greatest(was.limit_weight, 1)) FILTER (WHERE was.limit_name IS NOT NULL),
            max(was.id),
            max(was.queue_name)
        INTO released, held, left_names, left_keys, left_weights, one_id, one_queue
        FROM before_update AS was;
    ELSE
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
                    AND (job.limit_name, job.limit_key, greatest(job.limit_weight, 1))
                        IS NOT DISTINCT FROM (was.limit_name, was.limit_key, greatest(was.limit_weight, 1))
                ) AS is_leaving,
            job.limit_name IS NOT NULL AND job.status = 'todo' AND job.readiness = 3
                AND current_setting('procrastinate.weights', true) IS DISTINCT FROM 'unknown' AS is_in_line,
            job.limit_name IS NOT NULL AND (was.status, was.readiness, job.status, job.readiness)
                = ('todo', 3, 'todo', 1) AS is_admitted,
            was.limit_weight AS was_limit_weight,
            job.limit_name IS NOT NULL AND (job.status = 'doing' OR (job.status = 'todo' AND job.readiness = 1))
                AND CASE
                    WHEN (was.status = 'doing' OR (was.status = 'todo' AND was.readiness = 1))
                    THEN (job.limit_name, job.limit_key, greatest(job.limit_weight, 1))
                        IS DISTINCT FROM (was.limit_name, was.limit_key, greatest(was.limit_weight, 1))
                    ELSE job.status = 'doing'
                END AS is_moved_to_slot,
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
                AND (
                    (job.scheduled_at, job.lock, job.limit_name, job.limit_key)
                        IS DISTINCT FROM (was.scheduled_at, was.lock, was.limit_name, was.limit_key)
                    OR (
                        job.limit_name IS NOT NULL AND job.readiness IN (1, 3)
                        AND greatest(job.limit_weight, 1) <> greatest(was.limit_weight, 1)
                    )
                ) AS is_stale,
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
            was.limit_name, was.limit_key, was.limit_weight
        ) IS DISTINCT FROM (
            job.status, job.readiness, job.scheduled_at, job.lock, job.queue_name, job.abort_requested,
            job.limit_name, job.limit_key, job.limit_weight
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
        array_agg(greatest(was_limit_weight, 1)) FILTER (WHERE is_leaving),
        array_agg(id) FILTER (WHERE is_admitted),
        bool_or(is_in_line),
        bool_or(is_start),
        bool_or(is_moved_to_slot),
        array_agg(id) FILTER (WHERE is_returned),
        max(id),
        max(queue_name),
        (SELECT count(*) FROM woken) + (SELECT count(*) FROM arrived) + (SELECT count(*) FROM told)
    INTO released, undated, stale, forced, held, left_names, left_keys, left_weights, admitted, has_line, has_start, is_moving, returned, one_id, one_queue, notified
    FROM changed;
    END IF;

    IF is_moving THEN
        PERFORM set_config('procrastinate.hand_over_slots', 'off', true);
    END IF;
    -- Plain SQL that ends a job need not set finished_at, and plain SQL that reschedules one need not clear readiness.
    IF undated IS NOT NULL THEN
        UPDATE procrastinate_jobs SET finished_at = now() WHERE id = ANY (undated);
    END IF;
    IF stale IS NOT NULL THEN
        UPDATE procrastinate_jobs SET readiness = 0, scheduled_at = CASE WHEN limit_name IS NULL THEN scheduled_at ELSE coalesce(scheduled_at, now()) END WHERE id = ANY (stale);
    END IF;

    IF has_start AND NOT is_restoring THEN
        INSERT INTO procrastinate_starts (limit_name, limit_key, at, weight)
        SELECT job.limit_name, job.limit_key, clock_timestamp(), job.limit_weight
        FROM before_update AS was
        JOIN after_update AS job ON job.id = was.id
        WHERE job.limit_name IS NOT NULL AND (was.status, job.status) = ('todo', 'doing')
            AND NOT EXISTS (
                SELECT FROM procrastinate_limits AS defined
                WHERE defined.name = job.limit_name
                    AND NOT (coalesce(defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates) IS NOT NULL)
                    AND coalesce(
                        defined.set_concurrency, defined.concurrency, defined.set_total, defined.total,
                        defined.fair::integer
                    ) IS NOT NULL
            );
    END IF;
    IF returned IS NOT NULL THEN
        UPDATE procrastinate_jobs AS job SET readiness = 3, scheduled_at = coalesce(job.scheduled_at, now())
        WHERE job.id = ANY (returned) AND (
            EXISTS (
                SELECT FROM procrastinate_limits AS defined
                WHERE defined.name = job.limit_name AND (
                    coalesce(defined.set_concurrency, defined.concurrency) < (
                        SELECT sum(greatest(holder.limit_weight, 1))
                        FROM procrastinate_jobs AS holder
                        WHERE holder.limit_name IS NOT NULL
                            AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                            AND holder.limit_name = job.limit_name AND holder.limit_key = job.limit_key
                    )
                    OR coalesce(defined.set_total, defined.total) < (
                        SELECT sum(greatest(holder.limit_weight, 1))
                        FROM procrastinate_jobs AS holder
                        WHERE holder.limit_name IS NOT NULL
                            AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                            AND holder.limit_name = job.limit_name
                    )
                )
            ) OR NOT EXISTS (
                SELECT FROM procrastinate_limits AS defined
                WHERE defined.name = job.limit_name
                    AND NOT (coalesce(defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates) IS NOT NULL)
                    AND coalesce(
                        defined.set_concurrency, defined.concurrency, defined.set_total, defined.total,
                        defined.fair::integer
                    ) IS NOT NULL
            ) OR EXISTS (
            SELECT FROM procrastinate_hold_offs AS hold_off
            WHERE hold_off.limit_name = job.limit_name AND hold_off.limit_key = job.limit_key AND hold_off.until > clock_timestamp()
        ));
    END IF;
    IF released IS NOT NULL OR left_names IS NOT NULL THEN
        PERFORM procrastinate_leave(one_queue, one_id, released, held, left_names, left_keys, left_weights);
    END IF;
    IF admitted IS NOT NULL AND pg_trigger_depth() = 1 AND current_setting('procrastinate.weights', true) IS DISTINCT FROM 'known' THEN
        PERFORM set_config('procrastinate.weights', 'unknown', true);
        UPDATE procrastinate_jobs AS job SET readiness = 3
        WHERE job.id = ANY (admitted) AND (
                EXISTS (
                    SELECT FROM procrastinate_jobs AS holder
                    WHERE holder.limit_name IS NOT NULL
                        AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                        AND holder.limit_name = job.limit_name AND holder.limit_weight > 1
                )
                OR EXISTS (
                    SELECT FROM procrastinate_starts AS start
                    WHERE start.limit_name = job.limit_name AND start.weight > 1
                )
            );
        PERFORM set_config('procrastinate.weights', '', true);
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
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0028' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0029';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1028_simple_updates')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0029'),

    ]
