# Generated from the Alembic revision procrastinate_0001: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from django.db import models
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""ALTER TABLE procrastinate_jobs ADD COLUMN readiness SMALLINT DEFAULT 0 NOT NULL;""",
r"""ALTER TABLE procrastinate_jobs ADD COLUMN rescues INTEGER DEFAULT 0 NOT NULL;""",
r"""ALTER TABLE procrastinate_jobs ADD COLUMN finished_at TIMESTAMP WITH TIME ZONE;""",
r"""CREATE INDEX procrastinate_jobs_ready_queue_idx ON procrastinate_jobs (queue_name, priority DESC, id) WHERE status = 'todo' AND (readiness = 1 OR (scheduled_at IS NULL AND lock IS NULL));""",
r"""CREATE INDEX procrastinate_jobs_ready_idx ON procrastinate_jobs (priority DESC, id) WHERE status = 'todo' AND (readiness = 1 OR (scheduled_at IS NULL AND lock IS NULL)) AND NOT abort_requested;""",
r"""CREATE INDEX procrastinate_jobs_upcoming_idx ON procrastinate_jobs (coalesce(scheduled_at, '-infinity'::timestamptz)) WHERE status = 'todo' AND readiness = 0 AND (scheduled_at IS NOT NULL OR lock IS NOT NULL);""",
r"""CREATE INDEX procrastinate_jobs_parked_idx ON procrastinate_jobs (lock, priority DESC, id) WHERE status = 'todo' AND readiness = 2;""",
r"""CREATE INDEX procrastinate_jobs_doing_idx ON procrastinate_jobs (worker_id) WHERE status = 'doing';""",
r"""CREATE INDEX procrastinate_jobs_finished_idx ON procrastinate_jobs (status, finished_at) WHERE finished_at IS NOT NULL;""",
r"""CREATE UNIQUE INDEX procrastinate_jobs_lock_holder_idx ON procrastinate_jobs (lock) WHERE lock IS NOT NULL AND (status = 'doing' OR (status = 'todo' AND readiness = 1));""",
r"""CREATE UNIQUE INDEX procrastinate_jobs_queueing_lock_idx ON procrastinate_jobs (queueing_lock) WHERE status = 'todo' AND queueing_lock IS NOT NULL;""",
r"""CREATE INDEX procrastinate_events_job_id_idx ON procrastinate_events (job_id);""",
r"""CREATE INDEX procrastinate_periodic_defers_job_id_idx ON procrastinate_periodic_defers (job_id) WHERE job_id IS NOT NULL;""",
r"""CREATE INDEX procrastinate_workers_last_heartbeat_idx ON procrastinate_workers (last_heartbeat);""",
r"""CREATE FUNCTION procrastinate_queue_channel(queue_name text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $function$
    SELECT 'procrastinate_queue_v1#'
        || CASE WHEN octet_length(queue_name) <= 40 THEN queue_name ELSE md5(queue_name) END
$function$;""",
r"""CREATE FUNCTION procrastinate_notify_waiting(queue_name text, job_id bigint, upcoming boolean) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    payload text := json_build_object('type', 'job_inserted', 'job_id', job_id, 'upcoming', upcoming)::text;
BEGIN
    PERFORM pg_notify(procrastinate_queue_channel(queue_name), payload);
    PERFORM pg_notify('procrastinate_any_queue_v1', payload);
END
$function$;""",
r"""CREATE FUNCTION procrastinate_notify_abort(queue_name text, job_id bigint) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    payload text := json_build_object('type', 'abort_job_requested', 'job_id', job_id)::text;
BEGIN
    PERFORM pg_notify(procrastinate_queue_channel(queue_name), payload);
    PERFORM pg_notify('procrastinate_any_queue_v1', payload);
END
$function$;""",
r"""CREATE FUNCTION procrastinate_unpark_next(released text[]) RETURNS void
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
r"""CREATE FUNCTION procrastinate_jobs_inserted() RETURNS trigger
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
r"""CREATE FUNCTION procrastinate_jobs_updated() RETURNS trigger
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
r"""CREATE FUNCTION procrastinate_jobs_deleted() RETURNS trigger
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
r"""CREATE TRIGGER procrastinate_jobs_inserted AFTER INSERT ON procrastinate_jobs
REFERENCING NEW TABLE AS inserted
FOR EACH STATEMENT EXECUTE FUNCTION procrastinate_jobs_inserted();""",
r"""CREATE TRIGGER procrastinate_jobs_updated AFTER UPDATE ON procrastinate_jobs
REFERENCING OLD TABLE AS before_update NEW TABLE AS after_update
FOR EACH STATEMENT EXECUTE FUNCTION procrastinate_jobs_updated();""",
r"""CREATE TRIGGER procrastinate_jobs_deleted AFTER DELETE ON procrastinate_jobs
REFERENCING OLD TABLE AS deleted
FOR EACH STATEMENT EXECUTE FUNCTION procrastinate_jobs_deleted();""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0001' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0000';""",
]

BACKWARD = [
r"""DROP TRIGGER procrastinate_jobs_inserted ON procrastinate_jobs;""",
r"""DROP TRIGGER procrastinate_jobs_updated ON procrastinate_jobs;""",
r"""DROP TRIGGER procrastinate_jobs_deleted ON procrastinate_jobs;""",
r"""DROP FUNCTION procrastinate_jobs_inserted();""",
r"""DROP FUNCTION procrastinate_jobs_updated();""",
r"""DROP FUNCTION procrastinate_jobs_deleted();""",
r"""DROP FUNCTION procrastinate_unpark_next(text[]);""",
r"""DROP FUNCTION procrastinate_notify_waiting(text, bigint, boolean);""",
r"""DROP FUNCTION procrastinate_notify_abort(text, bigint);""",
r"""DROP FUNCTION procrastinate_queue_channel(text);""",
r"""DROP INDEX procrastinate_workers_last_heartbeat_idx;""",
r"""DROP INDEX procrastinate_periodic_defers_job_id_idx;""",
r"""DROP INDEX procrastinate_events_job_id_idx;""",
r"""DROP INDEX procrastinate_jobs_queueing_lock_idx;""",
r"""DROP INDEX procrastinate_jobs_doing_idx;""",
r"""ALTER TABLE procrastinate_jobs DROP COLUMN readiness;""",
r"""ALTER TABLE procrastinate_jobs DROP COLUMN rescues;""",
r"""ALTER TABLE procrastinate_jobs DROP COLUMN finished_at;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0000' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0001';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1000_tables')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0001'),
        migrations.AddField(
            model_name='procrastinatejob',
            name='readiness',
            field=models.SmallIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='procrastinatejob',
            name='rescues',
            field=models.IntegerField(default=0),
        ),
        migrations.AddField(
            model_name='procrastinatejob',
            name='finished_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
