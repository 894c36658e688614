# Generated from the Alembic revision procrastinate_0027: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""CREATE FUNCTION procrastinate_is_served(queue_name text) RETURNS boolean
LANGUAGE plpgsql STABLE
AS $function$
BEGIN
    IF NOT has_table_privilege('procrastinate_workers', 'SELECT') THEN
        RETURN true;
    END IF;
    RETURN coalesce((
        SELECT bool_or(coalesce(cardinality(worker.queues), 0) = 0 OR queue_name = ANY (worker.queues))
        FROM procrastinate_workers AS worker
        WHERE worker.state IS DISTINCT FROM 'draining'
    ), true);
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_hand_over(
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
                WHEN total.number IS NULL AND own.number IS NOT NULL AND NOT may_be_paused
                THEN greatest(least(freed.number, own.number - taken.number), 0)
                ELSE 0
            END AS free,
            own.number - taken.number AS left_over,
            first.weight AS first_weight
        FROM freed
        LEFT JOIN procrastinate_limits AS defined ON defined.name = freed.name
        CROSS JOIN LATERAL (SELECT coalesce(defined.set_concurrency, defined.concurrency)) AS own (number)
        CROSS JOIN LATERAL (
            SELECT coalesce(
                defined.set_total,
                defined.total,
                CASE
                    WHEN coalesce(defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates) IS NOT NULL
                    OR defined.fair
                    OR EXISTS (
                        SELECT FROM procrastinate_hold_offs AS hold_off
                        WHERE hold_off.limit_name = freed.name AND hold_off.limit_key = freed.key
                            AND hold_off.until > clock_timestamp()
                    )
                    THEN 2147483647
                END
            )
        ) AS total (number)
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(greatest(holder.limit_weight, 1)), 0) AS number
            FROM procrastinate_jobs AS holder
            WHERE holder.limit_name IS NOT NULL
                AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                AND holder.limit_name = freed.name AND holder.limit_key = freed.key
        ) AS taken
        LEFT JOIN LATERAL (
            SELECT greatest(waiting.limit_weight, 1) AS weight
            FROM procrastinate_jobs AS waiting
            WHERE waiting.limit_name = freed.name AND waiting.limit_key = freed.key
                AND waiting.status = 'todo' AND waiting.readiness = 3
                AND (own.number IS NULL OR greatest(waiting.limit_weight, 1) <= own.number)
            ORDER BY waiting.priority DESC, waiting.id
            LIMIT 1
        ) AS first ON true
    ),
    next AS MATERIALIZED (
        SELECT
            room.name, room.key, line.id, line.lock, line.weight,
            sum(line.weight) OVER (PARTITION BY room.name, room.key ORDER BY line.priority DESC, line.id) <= room.free
                AND procrastinate_is_served(line.queue_name) AS fits
        FROM room
        CROSS JOIN LATERAL (
            SELECT
                waiting.id, waiting.lock, waiting.priority, waiting.queue_name,
                greatest(waiting.limit_weight, 1) AS weight
            FROM procrastinate_jobs AS waiting
            WHERE waiting.limit_name = room.name AND waiting.limit_key = room.key
                AND waiting.status = 'todo' AND waiting.readiness = 3
                AND (room.concurrency IS NULL OR greatest(waiting.limit_weight, 1) <= room.concurrency)
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
        WHERE greatest(room.number, room.left_over) > (
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
$function$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0027' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0026';""",
]

BACKWARD = [
r"""CREATE OR REPLACE FUNCTION procrastinate_hand_over(
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
                WHEN total.number IS NULL AND own.number IS NOT NULL AND NOT may_be_paused
                THEN greatest(least(freed.number, own.number - taken.number), 0)
                ELSE 0
            END AS free,
            own.number - taken.number AS left_over,
            first.weight AS first_weight
        FROM freed
        LEFT JOIN procrastinate_limits AS defined ON defined.name = freed.name
        CROSS JOIN LATERAL (SELECT coalesce(defined.set_concurrency, defined.concurrency)) AS own (number)
        CROSS JOIN LATERAL (
            SELECT coalesce(
                defined.set_total,
                defined.total,
                CASE
                    WHEN coalesce(defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates) IS NOT NULL
                    OR defined.fair
                    OR EXISTS (
                        SELECT FROM procrastinate_hold_offs AS hold_off
                        WHERE hold_off.limit_name = freed.name AND hold_off.limit_key = freed.key
                            AND hold_off.until > clock_timestamp()
                    )
                    THEN 2147483647
                END
            )
        ) AS total (number)
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(greatest(holder.limit_weight, 1)), 0) AS number
            FROM procrastinate_jobs AS holder
            WHERE holder.limit_name IS NOT NULL
                AND (holder.status = 'doing' OR (holder.status = 'todo' AND holder.readiness = 1))
                AND holder.limit_name = freed.name AND holder.limit_key = freed.key
        ) AS taken
        LEFT JOIN LATERAL (
            SELECT greatest(waiting.limit_weight, 1) AS weight
            FROM procrastinate_jobs AS waiting
            WHERE waiting.limit_name = freed.name AND waiting.limit_key = freed.key
                AND waiting.status = 'todo' AND waiting.readiness = 3
                AND (own.number IS NULL OR greatest(waiting.limit_weight, 1) <= own.number)
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
            SELECT waiting.id, waiting.lock, waiting.priority, greatest(waiting.limit_weight, 1) AS weight
            FROM procrastinate_jobs AS waiting
            WHERE waiting.limit_name = room.name AND waiting.limit_key = room.key
                AND waiting.status = 'todo' AND waiting.readiness = 3
                AND (room.concurrency IS NULL OR greatest(waiting.limit_weight, 1) <= room.concurrency)
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
        WHERE greatest(room.number, room.left_over) > (
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
$function$;""",
r"""DROP FUNCTION procrastinate_is_served(text);""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0026' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0027';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1026_undefined_limits')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0027'),

    ]
