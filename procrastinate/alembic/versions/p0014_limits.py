"""Limits on jobs, and a place where triggers say what has become free.

A job with a limit waits in line, outside of every index that a fetch reads, until a slot of its limit is free. A job
that leaves a lock or a slot hands it to the next job in the same statement. What cannot be handed over becomes an
opening, and the next worker that promotes decides on it. Jobs without limits leave the new columns empty and are in
none of the new indexes.

A worker written for p0013 neither fetches nor promotes a job in line. If it promotes a job with a limit that was
scheduled or retried, a trigger sends the job to the line. It admits no job.

Revision ID: procrastinate_0014
Revises: procrastinate_0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from procrastinate.alembic.ahead import Ahead
from procrastinate.alembic.locks import lock_tables
from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0007_with_3x as with_3x
from procrastinate.alembic.versions import p0010_workflows as former
from procrastinate.alembic.versions import p0013_running_jobs as thirteenth

revision = "procrastinate_0014"
down_revision = "procrastinate_0013"
branch_labels = None
depends_on = None

IN_LINE = "status = 'todo' AND readiness = 3"
WAITS_FOR_OTHERS = "status = 'todo' AND readiness = 5"
HOLDS_SLOT = "limit_name IS NOT NULL AND (status = 'doing' OR (status = 'todo' AND readiness = 1))"

# Called from the triggers, with their search path, for the rows of one statement. Only a READ COMMITTED transaction
# sees the latest state of other jobs. In any other the change of a waiting job could fail, and the user's work with it,
# so it leaves openings alone. So it is with a role that may not read the limits. A session that sets
# procrastinate.hand_over to 'off' changes no other job either: the sweep of a worker finds the locks it leaves.
#
# A trigger of the user may refuse to change the next job in line. The statement that frees the slot must not fail for
# that, so an admission decides, which passes such a job by.
#
# While a queue is paused, the next job may be one of that queue. It must hold neither a lock nor a slot, so promotions
# and admissions decide, which know the pauses.
#
# A lock passes in the statement in which its holder leaves it: until that commits, every other session sees the former
# holder, and afterwards the new one. A lock whose holder stays is not handed over, and neither is one without a holder.
#
# A job with a limit gets in line and leaves the lock free, so an admission looks at the next job of the lock.
LEAVE = """
CREATE FUNCTION procrastinate_leave(
    queue_name text, job_id bigint, released text[], held text[], limit_names text[], limit_keys text[]
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
            PERFORM procrastinate_hand_over(queue_name, job_id, limit_names, limit_keys, may_be_paused);
        EXCEPTION WHEN OTHERS THEN
            INSERT INTO procrastinate_openings (limit_name, limit_key)
            SELECT DISTINCT freed.name, freed.key FROM unnest(limit_names, limit_keys) AS freed (name, key);
            PERFORM procrastinate_notify_waiting(queue_name, job_id, true, 1);
        END;
    END IF;
END
$function$
"""

# One out, one in: it cannot exceed the limit, whatever it does not see. A limit over all keys is left to an admission,
# for the next job may be of another key. So is a job that needs a lock as well. An admission that looked before this
# commits may have left a job in line, so a slot that goes to no job is an opening, too.
HAND_OVER = """
CREATE FUNCTION procrastinate_hand_over(
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
        CROSS JOIN LATERAL (SELECT coalesce(defined.set_total, defined.total)) AS total (number)
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
$function$
"""

# A job with a limit has a schedule whenever it waits, so that it is not taken for one that is ready by its row, by a
# worker written for p0013 for example. That time is no news. Only an admission gives slots: what such a worker
# promotes goes to the line in the same statement.
_HAS_UNKNOWN_READINESS = (
    "job.readiness NOT IN (5, 0, 1, 2)",
    """job.readiness NOT IN (5, 0, 1, 2, CASE WHEN job.limit_name IS NULL THEN 0 ELSE 3 END)
            OR (job.limit_name IS NOT NULL AND job.scheduled_at IS NULL AND job.status = 'todo')""",
)
_SCHEDULED = "scheduled_at = CASE WHEN limit_name IS NULL THEN scheduled_at ELSE coalesce(scheduled_at, now()) END"

JOBS_INSERTED = replaced(
    former.JOBS_INSERTED,
    ("    stray bigint[];\n", "    stray bigint[];\n    has_line boolean;\n"),
    ("AND (job.readiness <> 5 OR", "AND (job.readiness NOT IN (3, 5) OR"),
    _HAS_UNKNOWN_READINESS,
    ("SET readiness = 0 WHERE id = ANY (stray)", f"SET readiness = 0, {_SCHEDULED} WHERE id = ANY (stray)"),
    (
        "\n    INTO undated, stray\n",
        ",\n        bool_or(job.limit_name IS NOT NULL)\n    INTO undated, stray, has_line\n",
    ),
    (
        "    RETURN NULL;\nEND\n",
        # The openings of a restored job are restored, too. Without them, the sweep of the lines finds the job.
        """    IF has_line AND has_table_privilege('procrastinate_openings', 'INSERT')
        AND NOT (SELECT procrastinate_is_copied(one.id) FROM inserted AS one LIMIT 1)
    THEN
        INSERT INTO procrastinate_openings (limit_name, limit_key)
        SELECT DISTINCT job.limit_name, job.limit_key
        FROM inserted AS job
        WHERE job.status = 'todo' AND job.readiness = 3 AND job.limit_name IS NOT NULL;
    END IF;
    RETURN NULL;
END
""",
    ),
)

JOBS_UPDATED = replaced(
    former.JOBS_UPDATED,
    (
        "    stale bigint[];\n",
        """    stale bigint[];
    forced bigint[];
    held text[];
    left_names text[];
    left_keys text[];
    one_id bigint;
    one_queue text;
    has_line boolean;
""",
    ),
    (
        "            was.status AS was_status,\n",
        """            was.status AS was_status,
            job.limit_name, job.limit_key, was.limit_name AS was_limit_name, was.limit_key AS was_limit_key,
            was.status = 'doing' OR (was.status = 'todo' AND was.readiness = 1) AS was_holder,
            was.limit_name IS NOT NULL
                AND (was.status = 'doing' OR (was.status = 'todo' AND was.readiness = 1))
                AND NOT (
                    (job.status = 'doing' OR (job.status = 'todo' AND job.readiness IN (1, 3)))
                    AND (job.limit_name, job.limit_key) IS NOT DISTINCT FROM (was.limit_name, was.limit_key)
                ) AS is_leaving,
            job.limit_name IS NOT NULL AND job.status = 'todo' AND job.readiness = 3 AS is_in_line,
            job.limit_name IS NOT NULL AND (was.status, was.readiness, job.status, job.readiness)
                = ('todo', 0, 'todo', 1) AS is_forced,
""",
    ),
    _HAS_UNKNOWN_READINESS,
    ("SET readiness = 0 WHERE id = ANY (stale)", f"SET readiness = 0, {_SCHEDULED} WHERE id = ANY (stale)"),
    (
        "AND (job.scheduled_at, job.lock) IS DISTINCT FROM (was.scheduled_at, was.lock) AS is_stale",
        """AND (job.scheduled_at, job.lock, job.limit_name, job.limit_key)
                    IS DISTINCT FROM (was.scheduled_at, was.lock, was.limit_name, was.limit_key) AS is_stale""",
    ),
    (
        "was.status, was.readiness, was.scheduled_at, was.lock, was.queue_name, was.abort_requested\n",
        """was.status, was.readiness, was.scheduled_at, was.lock, was.queue_name, was.abort_requested,
            was.limit_name, was.limit_key
""",
    ),
    (
        "job.status, job.readiness, job.scheduled_at, job.lock, job.queue_name, job.abort_requested\n",
        """job.status, job.readiness, job.scheduled_at, job.lock, job.queue_name, job.abort_requested,
            job.limit_name, job.limit_key
""",
    ),
    ("bool_or(readiness = 0 AND (", "bool_or(is_in_line OR readiness = 0 AND ("),
    (
        "        array_agg(id) FILTER (WHERE is_stale),\n",
        """        array_agg(id) FILTER (WHERE is_stale),
        array_agg(id) FILTER (WHERE is_forced),
        array_agg(DISTINCT released_lock) FILTER (WHERE was_holder),
        array_agg(was_limit_name) FILTER (WHERE is_leaving),
        array_agg(was_limit_key) FILTER (WHERE is_leaving),
        bool_or(is_in_line),
        max(id),
        max(queue_name),
""",
    ),
    (
        "INTO released, undated, stale, notified\n",
        "INTO released, undated, stale, forced, held, left_names, left_keys, has_line, one_id, one_queue, notified\n",
    ),
    (
        """    IF released IS NOT NULL THEN
        PERFORM procrastinate_unpark_next(released);
    END IF;
""",
        """    IF released IS NOT NULL OR left_names IS NOT NULL THEN
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
""",
    ),
)

JOBS_DELETED = replaced(
    former.JOBS_DELETED,
    (
        "    released text[];\n",
        """    released text[];
    held text[];
    left_names text[];
    left_keys text[];
    one_id bigint;
    one_queue text;
""",
    ),
    (
        """    SELECT array_agg(DISTINCT was.lock) INTO released
    FROM deleted AS was
    WHERE was.lock IS NOT NULL AND (was.status = 'doing' OR (was.status = 'todo' AND was.readiness <> 2));
    IF released IS NOT NULL THEN
        PERFORM procrastinate_unpark_next(released);
    END IF;
""",
        """    SELECT
        array_agg(DISTINCT was.lock) FILTER (WHERE was.lock IS NOT NULL),
        array_agg(DISTINCT was.lock) FILTER (WHERE was.lock IS NOT NULL AND own.is_holder),
        array_agg(was.limit_name) FILTER (WHERE was.limit_name IS NOT NULL AND own.is_holder),
        array_agg(was.limit_key) FILTER (WHERE was.limit_name IS NOT NULL AND own.is_holder),
        max(was.id),
        max(was.queue_name)
    INTO released, held, left_names, left_keys, one_id, one_queue
    FROM deleted AS was
    CROSS JOIN LATERAL (
        SELECT was.status = 'doing' OR (was.status = 'todo' AND was.readiness = 1) AS is_holder
    ) AS own
    WHERE was.status = 'doing' OR (was.status = 'todo' AND was.readiness <> 2);
    IF released IS NOT NULL OR left_names IS NOT NULL THEN
        PERFORM procrastinate_leave(one_queue, one_id, released, held, left_names, left_keys);
    END IF;
""",
    ),
)

JOBS_TRUNCATED = replaced(thirteenth.JOBS_TRUNCATED, ("ARRAY['job_reports', ", "ARRAY['openings', 'job_reports', "))

# A worker of 3.x knows nothing of lines. It takes a job with a limit once that job has its slot.
_FORMER_FETCH_JOB = with_3x.FUNCTIONS["procrastinate_fetch_job_v2(varchar[], bigint)"]
FETCH_JOB = replaced(
    _FORMER_FETCH_JOB,
    (
        "                    AND (waiting.scheduled_at IS NULL OR waiting.scheduled_at <= now())\n"
        "                    AND (\n"
        "                        waiting.lock IS NULL\n",
        "                    AND (waiting.scheduled_at IS NULL OR waiting.scheduled_at <= now())\n"
        "                    AND (waiting.limit_name IS NULL OR waiting.readiness = 1)\n"
        "                    AND (\n"
        "                        waiting.lock IS NULL\n",
    ),
)

# Who may write the history of jobs may write openings, and who may read the jobs may read limits. Rights on the lock of
# a job are rights on its limit, which triggers read with the rights of the role.
GRANT = """
DO $do$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT class.relname, coalesce(quote_ident(grantee.rolname), 'PUBLIC') AS role
        FROM pg_class AS class
        CROSS JOIN aclexplode(class.relacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE privilege.grantee <> class.relowner AND (
            (class.oid = 'procrastinate_events'::regclass AND privilege.privilege_type = 'INSERT')
            OR (class.oid = 'procrastinate_workers'::regclass AND privilege.privilege_type = 'INSERT')
        )
    LOOP
        EXECUTE format('GRANT SELECT ON procrastinate_limits TO %s', granted.role);
        IF granted.relname = 'procrastinate_workers' THEN
            EXECUTE format('GRANT INSERT, UPDATE ON procrastinate_limits TO %s', granted.role);
            EXECUTE format('GRANT SELECT, UPDATE, DELETE ON procrastinate_openings TO %s', granted.role);
        END IF;
        EXECUTE format('GRANT INSERT ON procrastinate_openings TO %s', granted.role);
    END LOOP;
    FOR granted IN
        SELECT coalesce(quote_ident(grantee.rolname), 'PUBLIC') AS role, privilege.privilege_type AS privileges
        FROM pg_attribute AS attribute
        CROSS JOIN aclexplode(attribute.attacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE attribute.attrelid = 'procrastinate_jobs'::regclass AND attribute.attname = 'lock'
    LOOP
        EXECUTE format(
            'GRANT %1$s (limit_name), %1$s (limit_key) ON procrastinate_jobs TO %2$s', granted.privileges, granted.role
        );
    END LOOP;
END
$do$
"""

_REPLACED = (JOBS_INSERTED, JOBS_UPDATED, JOBS_DELETED, JOBS_TRUNCATED, FETCH_JOB)
_FORMER = (
    former.JOBS_INSERTED,
    former.JOBS_UPDATED,
    former.JOBS_DELETED,
    thirteenth.JOBS_TRUNCATED,
    _FORMER_FETCH_JOB,
)

AHEAD = Ahead(
    columns={"limit_name": "text", "limit_key": "text"},
    indexes={
        "procrastinate_jobs_line_idx": f"(limit_name, limit_key, priority DESC, id) WHERE {IN_LINE}",
        "procrastinate_jobs_slots_idx": f"(limit_name, limit_key) WHERE {HOLDS_SLOT}",
        "procrastinate_jobs_steps_idx": f"(id) WHERE {WAITS_FOR_OTHERS}",
    },
)


def upgrade() -> None:
    _create_limits()
    execute_as_written(lock_tables())
    for statement in AHEAD.within_revision():
        execute_as_written(statement)
    for statement in (GRANT, LEAVE, HAND_OVER, *_REPLACED):
        execute_as_written(statement)


def _create_limits() -> None:
    op.create_table(
        "procrastinate_limits",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("concurrency", sa.Integer),
        sa.Column("total", sa.Integer),
        sa.Column("set_concurrency", sa.Integer),
        sa.Column("set_total", sa.Integer),
        sa.Column("defined_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    )
    op.create_table(
        "procrastinate_openings",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("lock", sa.Text),
        sa.Column("limit_name", sa.Text),
        sa.Column("limit_key", sa.Text),
    )


# A job in line goes on as if it had no limit. What is in line of a big table leaves it before (alembic.empty_lines).
LEAVE_LINE = "UPDATE procrastinate_jobs SET readiness = 0 WHERE status = 'todo' AND readiness = 3"


def downgrade() -> None:
    execute_as_written(lock_tables())
    execute_as_written(LEAVE_LINE)
    for statement in _FORMER:
        execute_as_written(replaced(statement))
    execute_as_written("DROP FUNCTION procrastinate_leave(text, bigint, text[], text[], text[], text[])")
    execute_as_written("DROP FUNCTION procrastinate_hand_over(text, bigint, text[], text[], boolean)")
    op.drop_table("procrastinate_openings")
    op.drop_table("procrastinate_limits")
    op.drop_index("procrastinate_jobs_steps_idx", "procrastinate_jobs")
    for name in AHEAD.columns:
        op.drop_column("procrastinate_jobs", name)
