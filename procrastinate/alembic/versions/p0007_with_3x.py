"""The functions and the type that programs of Procrastinate 3.x call, so that they work together with this release.

``procrastinate_defer_jobs_v1`` with its type, ``procrastinate_cancel_job_v1`` and ``procrastinate_retry_job_v2`` are
the queue's contract for programs in SQL. The others are for workers of 3.x. A database that 3.x has made has functions
of these names and parameters, which are replaced here. They are never dropped and created: a prepared statement of a
running program would go on with the function that it knew.

Only additions, and one index gets another name: a worker written for p0006 runs on.

Revision ID: procrastinate_0007
Revises: procrastinate_0006
"""

from __future__ import annotations

import re

from alembic import op

from procrastinate.alembic.replace_functions import execute_as_written
from procrastinate.alembic.settings import FETCHES_NOTHING_BEFORE

revision = "procrastinate_0007"
down_revision = "procrastinate_0006"
branch_labels = None
depends_on = None

# Postgres has no CREATE TYPE IF NOT EXISTS. The type is looked for where it would be created.
JOB_TO_DEFER = """
DO $do$
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
$do$
"""

# A function keeps the search path of its creation. By now the schema may have another name, or the tables and functions
# be in another one. PostgreSQL names the function with its schema, unless that path finds it. (PG_ROUTINE_OID would say
# the same from PostgreSQL 16 on.) The type of a fetched job is the tables' own, wherever they are. The former path is
# there again when the function ends. Types in DECLARE would be looked for before.
_FIND_TABLES = """
BEGIN
    GET DIAGNOSTICS place = PG_CONTEXT;
    place := substring(split_part(place, chr(10), 1) FROM '("([^"]|"")+"|[a-z_][a-z0-9_]*)[.]{name}[(]');
    PERFORM set_config('search_path', concat_ws(
        ', ', job_type.typnamespace::regnamespace, place, nullif(current_setting('search_path'), '')
    ), true)
    FROM pg_proc AS function JOIN pg_type AS job_type ON job_type.oid = function.prorettype
    WHERE function.oid = to_regprocedure(concat(place || '.', 'procrastinate_fetch_job_v2(varchar[], bigint)'));
"""


def _finding_tables(function: str) -> str:
    """Let a function look for the tables of its own queue first."""
    name = re.findall(r"FUNCTION (\w+)\(", function)[0]
    if "DECLARE\n" in function:
        function = function.replace("DECLARE\n", "DECLARE\n    place text;\n", 1)
    else:
        function = function.replace("\nBEGIN\n", "\nDECLARE\n    place text;\nBEGIN\n", 1)
    return function.replace("\nBEGIN\n", _FIND_TABLES.replace("{name}", name), 1)


# Numbers are drawn in the order of the rows, so the ids come back in the order of the jobs.
DEFER_JOBS = """
CREATE OR REPLACE FUNCTION procrastinate_defer_jobs_v1(jobs procrastinate_job_to_defer_v1[]) RETURNS bigint[]
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    ids bigint[];
BEGIN
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
$function$
"""

CANCEL_JOB = """
CREATE OR REPLACE FUNCTION procrastinate_cancel_job_v1(job_id bigint, abort boolean, delete_job boolean) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    found_id bigint;
BEGIN
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
$function$
"""

# What a run has left in the row does not survive into the next one. A queueing lock that another job has taken since
# is given up: the job would stay "doing".
RETRY_JOB = """
CREATE OR REPLACE FUNCTION procrastinate_retry_job_v2(
    job_id bigint, retry_at timestamptz, new_priority integer, new_queue_name varchar, new_lock varchar
) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
BEGIN
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
$function$
"""

FORMER_RETRY_JOB = """
CREATE OR REPLACE FUNCTION procrastinate_retry_job_v1(
    job_id bigint, retry_at timestamptz, new_priority integer, new_queue_name varchar, new_lock varchar
) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
BEGIN
    PERFORM FROM procrastinate_jobs AS job WHERE job.id = job_id AND job.status = 'doing' FOR UPDATE;
    IF NOT FOUND THEN
        RAISE 'Job % can not be retried: it is not in "doing" status', job_id;
    END IF;
    PERFORM procrastinate_retry_job_v2(job_id, retry_at, new_priority, new_queue_name, new_lock);
END
$function$
"""

# A tick is deferred once. Rows of earlier ticks stay: a worker of this release still looks at them.
DEFER_PERIODIC_JOB = """
CREATE OR REPLACE FUNCTION procrastinate_defer_periodic_job_v2(
    _queue_name varchar, _lock varchar, _queueing_lock varchar, _task_name varchar, _priority integer,
    _periodic_id varchar, _defer_timestamp bigint, _args jsonb
) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    tick_id bigint;
    deferred_id bigint;
BEGIN
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
$function$
"""

# It judges times and locks itself, and needs no worker of this release that promotes jobs. A job that is promoted has
# its lock, and goes first. What a worker of this release promotes or fetches at the same moment is a unique violation.
#
# It answers with a row of the table. A query that began before a new column came does not expect it, and the worker of
# 3.x ends. So nothing is fetched while a migration is at work, nor by a query that began before its end
# (procrastinate.alembic.settings.hold_fetches_of_3x). The lock comes first: the look at the comment then sees what a
# migration has written that has ended.
FETCH_JOB = """
CREATE OR REPLACE FUNCTION procrastinate_fetch_job_v2(target_queue_names varchar[], p_worker_id bigint)
RETURNS procrastinate_jobs
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    fetched record;
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(1886547811, 2) THEN
        RETURN NULL;
    END IF;
    IF now() < {until} THEN
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
$function$
""".replace("{until}", FETCHES_NOTHING_BEFORE)

FINISH_JOB = """
CREATE OR REPLACE FUNCTION procrastinate_finish_job_v1(
    job_id bigint, end_status procrastinate_job_status, delete_job boolean
) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
BEGIN
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
$function$
"""

REGISTER_WORKER = """
CREATE OR REPLACE FUNCTION procrastinate_register_worker_v1() RETURNS TABLE (worker_id bigint)
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id;
END
$function$
"""

UPDATE_HEARTBEAT = """
CREATE OR REPLACE FUNCTION procrastinate_update_heartbeat_v1(worker_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
BEGIN
    UPDATE procrastinate_workers SET last_heartbeat = now() WHERE id = $1;
END
$function$
"""

# Workers of 3.x find the jobs of one that is gone by their empty worker_id.
UNREGISTER_WORKER = """
CREATE OR REPLACE FUNCTION procrastinate_unregister_worker_v1(worker_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
BEGIN
    UPDATE procrastinate_jobs SET worker_id = NULL WHERE procrastinate_jobs.worker_id = $1 AND status = 'doing';
    DELETE FROM procrastinate_workers WHERE id = $1;
END
$function$
"""

# A worker of 3.x sends no heartbeat while it drains, and does not say how long it may be silent. It has an hour.
PRUNE_STALLED_WORKERS = """
CREATE OR REPLACE FUNCTION procrastinate_prune_stalled_workers_v1(seconds_since_heartbeat double precision)
RETURNS TABLE (worker_id bigint)
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
BEGIN
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
$function$
"""

_FUNCTIONS = {
    "procrastinate_defer_jobs_v1(procrastinate_job_to_defer_v1[])": DEFER_JOBS,
    "procrastinate_cancel_job_v1(bigint, boolean, boolean)": CANCEL_JOB,
    "procrastinate_retry_job_v2(bigint, timestamptz, integer, varchar, varchar)": RETRY_JOB,
    "procrastinate_retry_job_v1(bigint, timestamptz, integer, varchar, varchar)": FORMER_RETRY_JOB,
    (
        "procrastinate_defer_periodic_job_v2(varchar, varchar, varchar, varchar, integer, varchar, bigint, jsonb)"
    ): DEFER_PERIODIC_JOB,
    "procrastinate_fetch_job_v2(varchar[], bigint)": FETCH_JOB,
    "procrastinate_finish_job_v1(bigint, procrastinate_job_status, boolean)": FINISH_JOB,
    "procrastinate_register_worker_v1()": REGISTER_WORKER,
    "procrastinate_update_heartbeat_v1(bigint)": UPDATE_HEARTBEAT,
    "procrastinate_unregister_worker_v1(bigint)": UNREGISTER_WORKER,
    "procrastinate_prune_stalled_workers_v1(double precision)": PRUNE_STALLED_WORKERS,
}
FUNCTIONS = {signature: _finding_tables(function) for signature, function in _FUNCTIONS.items()}

QUEUEING_LOCK = "procrastinate_jobs_queueing_lock_idx"
QUEUEING_LOCK_OF_3X = f"{QUEUEING_LOCK}_v1"

# Tables that were upgraded from 3.x have it already. A second process may be about to build it under the first name.
RENAME_INDEX = f"""
DO $do$
BEGIN
    IF to_regclass('{QUEUEING_LOCK_OF_3X}') IS NULL THEN
        ALTER INDEX {QUEUEING_LOCK} RENAME TO {QUEUEING_LOCK_OF_3X};
    END IF;
END
$do$
"""

# 3.x cannot be gone back to from here: its own functions have been replaced.
REFUSE_ADOPTED = """
DO $do$
BEGIN
    IF to_regproc('procrastinate_fetch_job_v2_of_3x') IS NOT NULL THEN
        RAISE 'These tables were upgraded from Procrastinate 3.x. To go back to it, run `procrastinate schema '
            '--revert-to-3x`';
    END IF;
END
$do$
"""


def upgrade() -> None:
    for statement in (RENAME_INDEX, JOB_TO_DEFER, *FUNCTIONS.values()):
        execute_as_written(statement)


def downgrade() -> None:
    execute_as_written(REFUSE_ADOPTED)
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION {signature}")
    op.execute("DROP TYPE procrastinate_job_to_defer_v1")
    op.execute(f"ALTER INDEX {QUEUEING_LOCK_OF_3X} RENAME TO {QUEUEING_LOCK}")
