"""Weights: a job may take several slots of its limit, and count as several starts of a rate.

A job that leaves hands its slots over if they are enough for the next job in line. If they are not, an admission
decides, which also knows what has been free before. Jobs of the weight one leave the new columns empty.

A worker written for p0019 counts each job as one. If it gives away slots of a limit that has heavy jobs, a trigger
takes them back in the same statement, and an admission of this release gives them away. An admission says in a setting
that it knows weights.

Revision ID: procrastinate_0020
Revises: procrastinate_0019
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from procrastinate.alembic.ahead import Ahead
from procrastinate.alembic.locks import lock_tables
from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0014_limits as fourteenth
from procrastinate.alembic.versions import p0015_rates as fifteenth
from procrastinate.alembic.versions import p0019_hold_offs as former

revision = "procrastinate_0020"
down_revision = "procrastinate_0019"
branch_labels = None
depends_on = None

_IS_HELD_OFF = """EXISTS (
                        SELECT FROM procrastinate_hold_offs AS hold_off
                        WHERE hold_off.limit_name = freed.name AND hold_off.limit_key = freed.key
                            AND hold_off.until > clock_timestamp()
                    )"""

AHEAD = Ahead(columns={"limit_weight": "integer"}, indexes={})

LEAVE = replaced(
    fourteenth.LEAVE,
    ("limit_names text[], limit_keys text[]\n", "limit_names text[], limit_keys text[], limit_weights integer[]\n"),
    (
        "procrastinate_hand_over(queue_name, job_id, limit_names, limit_keys, may_be_paused)",
        "procrastinate_hand_over(queue_name, job_id, limit_names, limit_keys, limit_weights, may_be_paused)",
    ),
)

# One out, one in, by weight: the jobs that get slots take no more of them than have become free, so it cannot exceed
# the limit, whatever it does not see. A limit over all keys is left to an admission, for the next job may be of another
# key. So is a limit with a rate or a hold-off, and a job that needs a lock as well.
#
# A job that needs more slots than have become free waits for an admission, and no job of its key passes it by. It is
# not locked if it is the first in line: another session that ends a job would take it for gone. A job that is too heavy
# for the limit never starts, and holds up no other.
#
# An admission that looked before this commits may have left a job in line, so a slot that goes to no job is an opening,
# too.
HAND_OVER = f"""
CREATE FUNCTION procrastinate_hand_over(
    queue_name text, job_id bigint, limit_names text[], limit_keys text[], limit_weights integer[],
    may_be_paused boolean
) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    is_awaited boolean;
BEGIN
    WITH freed AS MATERIALIZED (
        SELECT one.name, one.key, sum(one.weight) AS number
        FROM unnest(limit_names, limit_keys, limit_weights) AS one (name, key, weight)
        GROUP BY one.name, one.key
    ),
    room AS MATERIALIZED (
        SELECT
            freed.name, freed.key, freed.number, own.number AS concurrency, total.number IS NOT NULL AS has_total,
            CASE
                WHEN total.number IS NULL AND NOT may_be_paused
                THEN greatest(least(freed.number, own.number - taken.number), 0)
                ELSE 0
            END AS free,
            first.weight AS first_weight
        FROM freed
        LEFT JOIN procrastinate_limits AS defined ON defined.name = freed.name
        CROSS JOIN LATERAL (SELECT coalesce(defined.set_concurrency, defined.concurrency)) AS own (number)
        CROSS JOIN LATERAL (
            SELECT coalesce(
                defined.set_total,
                defined.total,
                CASE
                    WHEN {fifteenth.HAS_RATE}
                    OR defined.fair
                    OR {_IS_HELD_OFF}
                    THEN 2147483647
                END
            )
        ) AS total (number)
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(coalesce(holder.limit_weight, 1)), 0) AS number
            FROM procrastinate_jobs AS holder
            WHERE holder.limit_name IS NOT NULL
                AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                AND holder.limit_name = freed.name AND holder.limit_key = freed.key
        ) AS taken
        LEFT JOIN LATERAL (
            SELECT coalesce(waiting.limit_weight, 1) AS weight
            FROM procrastinate_jobs AS waiting
            WHERE waiting.limit_name = freed.name AND waiting.limit_key = freed.key
                AND waiting.status = 'todo' AND waiting.readiness = 3
                AND (own.number IS NULL OR coalesce(waiting.limit_weight, 1) <= own.number)
            ORDER BY waiting.priority DESC, waiting.id
            LIMIT 1
        ) AS first ON true
    ),
    next AS MATERIALIZED (
        SELECT
            room.name, room.key, line.id, line.lock, line.weight,
            sum(line.weight) OVER (PARTITION BY room.name, room.key ORDER BY line.priority DESC, line.id) <= room.free
                AS fits
        FROM room
        CROSS JOIN LATERAL (
            SELECT waiting.id, waiting.lock, waiting.priority, coalesce(waiting.limit_weight, 1) AS weight
            FROM procrastinate_jobs AS waiting
            WHERE waiting.limit_name = room.name AND waiting.limit_key = room.key
                AND waiting.status = 'todo' AND waiting.readiness = 3
                AND (room.concurrency IS NULL OR coalesce(waiting.limit_weight, 1) <= room.concurrency)
            ORDER BY waiting.priority DESC, waiting.id
            LIMIT coalesce(room.free / room.first_weight, 0)
            FOR UPDATE SKIP LOCKED
        ) AS line
    ),
    given AS (
        UPDATE procrastinate_jobs AS job SET readiness = 1
        FROM next
        WHERE job.id = next.id AND next.fits AND next.lock IS NULL
    ),
    opened AS (
        INSERT INTO procrastinate_openings (limit_name, limit_key)
        SELECT room.name, room.key
        FROM room
        WHERE room.number > (
            SELECT coalesce(sum(next.weight), 0)
            FROM next
            WHERE next.name = room.name AND next.key = room.key AND next.fits AND next.lock IS NULL
        )
        RETURNING limit_name, limit_key
    )
    SELECT bool_or(
        EXISTS (
            SELECT FROM next
            WHERE next.name = room.name AND next.key = room.key AND (next.lock IS NOT NULL OR NOT next.fits)
        )
        OR (room.free > 0 AND room.first_weight > 1)
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
"""  # noqa: S608

_KNOWS = "current_setting('procrastinate.weights', true)"
# Held by jobs that have slots now, and by starts that a rate still counts.
_HAS_HEAVY_JOBS = """(
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
            )"""

# What an admission has given away that does not know weights gets back in line, and is no news: it would only look
# again. A heartbeat looks at such lines, and so does the next end of a job of the key.
JOBS_UPDATED = replaced(
    former.JOBS_UPDATED,
    ("    left_keys text[];\n", "    left_keys text[];\n    left_weights integer[];\n    admitted bigint[];\n"),
    (
        " AS is_in_line,\n",
        f"""
                AND {_KNOWS} IS DISTINCT FROM 'unknown' AS is_in_line,
            job.limit_name IS NOT NULL AND (was.status, was.readiness, job.status, job.readiness)
                = ('todo', 3, 'todo', 1) AS is_admitted,
            was.limit_weight AS was_limit_weight,
""",
    ),
    (
        "array_agg(was_limit_key) FILTER (WHERE is_leaving),\n",
        """array_agg(was_limit_key) FILTER (WHERE is_leaving),
        array_agg(coalesce(was_limit_weight, 1)) FILTER (WHERE is_leaving),
        array_agg(id) FILTER (WHERE is_admitted),
""",
    ),
    ("left_keys, has_line, has_start", "left_keys, left_weights, admitted, has_line, has_start"),
    (
        "procrastinate_starts (limit_name, limit_key, at)\n",
        "procrastinate_starts (limit_name, limit_key, at, weight)\n",
    ),
    (
        "SELECT job.limit_name, job.limit_key, clock_timestamp()\n",
        "SELECT job.limit_name, job.limit_key, clock_timestamp(), job.limit_weight\n",
    ),
    ("released, held, left_names, left_keys);", "released, held, left_names, left_keys, left_weights);"),
    (
        "    IF forced IS NOT NULL THEN\n",
        f"""    IF admitted IS NOT NULL AND pg_trigger_depth() = 1 AND {_KNOWS} IS DISTINCT FROM 'known' THEN
        PERFORM set_config('procrastinate.weights', 'unknown', true);
        UPDATE procrastinate_jobs AS job SET readiness = 3
        WHERE job.id = ANY (admitted) AND {_HAS_HEAVY_JOBS};
        PERFORM set_config('procrastinate.weights', '', true);
    END IF;
    IF forced IS NOT NULL THEN
""",  # noqa: S608
    ),
)

JOBS_DELETED = replaced(
    fourteenth.JOBS_DELETED,
    ("    left_keys text[];\n", "    left_keys text[];\n    left_weights integer[];\n"),
    (
        "array_agg(was.limit_key) FILTER (WHERE was.limit_name IS NOT NULL AND own.is_holder),\n",
        """array_agg(was.limit_key) FILTER (WHERE was.limit_name IS NOT NULL AND own.is_holder),
        array_agg(coalesce(was.limit_weight, 1)) FILTER (WHERE was.limit_name IS NOT NULL AND own.is_holder),
""",
    ),
    (
        "INTO released, held, left_names, left_keys, one_id",
        "INTO released, held, left_names, left_keys, left_weights, one_id",
    ),
    ("released, held, left_names, left_keys);", "released, held, left_names, left_keys, left_weights);"),
)

# Rights on the lock of a job are rights on its weight, as they are on its limit.
GRANT = """
DO $do$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT coalesce(quote_ident(grantee.rolname), 'PUBLIC') AS role, privilege.privilege_type AS privileges
        FROM pg_attribute AS attribute
        CROSS JOIN aclexplode(attribute.attacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE attribute.attrelid = 'procrastinate_jobs'::regclass AND attribute.attname = 'limit_name'
    LOOP
        EXECUTE format('GRANT %s (limit_weight) ON procrastinate_jobs TO %s', granted.privileges, granted.role);
    END LOOP;
END
$do$
"""

_DROP = (
    "DROP FUNCTION procrastinate_leave(text, bigint, text[], text[], text[], text[]{weights})",
    "DROP FUNCTION procrastinate_hand_over(text, bigint, text[], text[]{weights}, boolean)",
)


def upgrade() -> None:
    execute_as_written(lock_tables())
    for statement in AHEAD.within_revision():
        execute_as_written(statement)
    op.add_column("procrastinate_starts", sa.Column("weight", sa.Integer))
    for statement in (
        GRANT,
        *(drop.format(weights="") for drop in _DROP),
        LEAVE,
        HAND_OVER,
        JOBS_UPDATED,
        JOBS_DELETED,
    ):
        execute_as_written(statement)


def downgrade() -> None:
    """Let each job count as one."""
    execute_as_written(lock_tables())
    for statement in (former.JOBS_UPDATED, fourteenth.JOBS_DELETED):
        execute_as_written(replaced(statement))
    for drop in _DROP:
        execute_as_written(drop.format(weights=", integer[]"))
    for statement in (fourteenth.LEAVE, former.HAND_OVER):
        execute_as_written(statement)
    op.drop_column("procrastinate_starts", "weight")
    op.drop_column("procrastinate_jobs", "limit_weight")
