"""What the queue adds to the tables of 3.x: columns, indexes, and the triggers that keep history and wake workers.

Revision ID: procrastinate_0001
Revises: procrastinate_0000
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "procrastinate_0001"
down_revision = "procrastinate_0000"
branch_labels = None
depends_on = None

READY = "status = 'todo' AND (readiness = 1 OR (scheduled_at IS NULL AND lock IS NULL))"
READY_IN_ANY_QUEUE = f"{READY} AND NOT abort_requested"
UPCOMING = "status = 'todo' AND readiness = 0 AND (scheduled_at IS NOT NULL OR lock IS NOT NULL)"
PARKED = "status = 'todo' AND readiness = 2"
HOLDS_LOCK = "lock IS NOT NULL AND (status = 'doing' OR (status = 'todo' AND readiness = 1))"
HOLDS_QUEUEING_LOCK = "status = 'todo' AND queueing_lock IS NOT NULL"

# Channel names longer than 63 bytes are refused by PostgreSQL: a long queue name is hashed.
QUEUE_CHANNEL = """
CREATE FUNCTION procrastinate_queue_channel(queue_name text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $function$
    SELECT 'procrastinate_queue_v1#'
        || CASE WHEN octet_length(queue_name) <= 40 THEN queue_name ELSE md5(queue_name) END
$function$
"""

# "SET search_path FROM CURRENT" in each trigger function: whoever writes to the table, from whatever search
# path, fires it; its own tables are those of the schema in which it was created.

JOBS_INSERTED = """
CREATE FUNCTION procrastinate_jobs_inserted() RETURNS trigger
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
$function$
"""

# The payload names one job of the statement: a worker is woken, and then fetches whatever is ready.
NOTIFY_WAITING = """
CREATE FUNCTION procrastinate_notify_waiting(queue_name text, job_id bigint, upcoming boolean) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    payload text := json_build_object('type', 'job_inserted', 'job_id', job_id, 'upcoming', upcoming)::text;
BEGIN
    PERFORM pg_notify(procrastinate_queue_channel(queue_name), payload);
    PERFORM pg_notify('procrastinate_any_queue_v1', payload);
END
$function$
"""

# The rows before and after are joined once, for history and notifications alike. Without nested loops: the plan is
# kept from the first call, perhaps of one row, and a nested loop over two times a thousand rows takes a second.
JOBS_UPDATED = """
CREATE FUNCTION procrastinate_jobs_updated() RETURNS trigger
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
$function$
"""

NOTIFY_ABORT = """
CREATE FUNCTION procrastinate_notify_abort(queue_name text, job_id bigint) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    payload text := json_build_object('type', 'abort_job_requested', 'job_id', job_id)::text;
BEGIN
    PERFORM pg_notify(procrastinate_queue_channel(queue_name), payload);
    PERFORM pg_notify('procrastinate_any_queue_v1', payload);
END
$function$
"""

# By index, whatever the planner knows of the table (and whatever the caller has switched off).
# SKIP LOCKED: a job that somebody's open transaction holds must not make the finishing worker wait.
UNPARK_NEXT = """
CREATE FUNCTION procrastinate_unpark_next(released text[]) RETURNS void
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
$function$
"""

# By index, however many are deleted: a plan with a hash join would read all events for every thousand jobs.
JOBS_DELETED = """
CREATE FUNCTION procrastinate_jobs_deleted() RETURNS trigger
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
$function$
"""

FUNCTIONS = (QUEUE_CHANNEL, NOTIFY_WAITING, NOTIFY_ABORT, UNPARK_NEXT, JOBS_INSERTED, JOBS_UPDATED, JOBS_DELETED)

TRIGGERS = (
    """
CREATE TRIGGER procrastinate_jobs_inserted AFTER INSERT ON procrastinate_jobs
REFERENCING NEW TABLE AS inserted
FOR EACH STATEMENT EXECUTE FUNCTION procrastinate_jobs_inserted()
""",
    """
CREATE TRIGGER procrastinate_jobs_updated AFTER UPDATE ON procrastinate_jobs
REFERENCING OLD TABLE AS before_update NEW TABLE AS after_update
FOR EACH STATEMENT EXECUTE FUNCTION procrastinate_jobs_updated()
""",
    """
CREATE TRIGGER procrastinate_jobs_deleted AFTER DELETE ON procrastinate_jobs
REFERENCING OLD TABLE AS deleted
FOR EACH STATEMENT EXECUTE FUNCTION procrastinate_jobs_deleted()
""",
)


def upgrade() -> None:
    for column in (
        sa.Column("readiness", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("rescues", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
    ):
        op.add_column("procrastinate_jobs", column)
    _index_jobs()
    _index_other_tables()
    for statement in (*FUNCTIONS, *TRIGGERS):
        op.execute(sa.text(statement.strip().replace(":", r"\:")))


def _index_jobs() -> None:
    priority = sa.text("priority DESC")
    for name, columns, where in (
        ("ready_queue", ["queue_name", priority, "id"], READY),
        ("ready", [priority, "id"], READY_IN_ANY_QUEUE),
        ("upcoming", [sa.text("coalesce(scheduled_at, '-infinity'\\:\\:timestamptz)")], UPCOMING),
        ("parked", ["lock", priority, "id"], PARKED),
        ("doing", ["worker_id"], "status = 'doing'"),
        ("finished", ["status", "finished_at"], "finished_at IS NOT NULL"),
    ):
        op.create_index(
            f"procrastinate_jobs_{name}_idx", "procrastinate_jobs", columns, postgresql_where=sa.text(where)
        )
    for name, column, where in (
        ("lock_holder", "lock", HOLDS_LOCK),
        ("queueing_lock", "queueing_lock", HOLDS_QUEUEING_LOCK),
    ):
        op.create_index(
            f"procrastinate_jobs_{name}_idx",
            "procrastinate_jobs",
            [column],
            unique=True,
            postgresql_where=sa.text(where),
        )


def _index_other_tables() -> None:
    op.create_index("procrastinate_events_job_id_idx", "procrastinate_events", ["job_id"])
    op.create_index(
        "procrastinate_periodic_defers_job_id_idx",
        "procrastinate_periodic_defers",
        ["job_id"],
        postgresql_where=sa.text("job_id IS NOT NULL"),
    )
    op.create_index("procrastinate_workers_last_heartbeat_idx", "procrastinate_workers", ["last_heartbeat"])


def downgrade() -> None:
    for trigger in ("inserted", "updated", "deleted"):
        op.execute(f"DROP TRIGGER procrastinate_jobs_{trigger} ON procrastinate_jobs")
    for function in (
        "jobs_inserted()",
        "jobs_updated()",
        "jobs_deleted()",
        "unpark_next(text[])",
        "notify_waiting(text, bigint, boolean)",
        "notify_abort(text, bigint)",
        "queue_channel(text)",
    ):
        op.execute(f"DROP FUNCTION procrastinate_{function}")
    for index in ("workers_last_heartbeat", "periodic_defers_job_id", "events_job_id", "jobs_queueing_lock"):
        op.execute(f"DROP INDEX procrastinate_{index}_idx")
    # Indexes that name one of the columns go with it. These do not.
    op.execute("DROP INDEX procrastinate_jobs_doing_idx")
    for column in ("readiness", "rescues", "finished_at"):
        op.drop_column("procrastinate_jobs", column)
