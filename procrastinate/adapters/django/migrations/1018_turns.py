# Generated from the Alembic revision procrastinate_0018: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""CREATE TABLE procrastinate_turns (
    limit_name TEXT NOT NULL,
    last_key TEXT NOT NULL,
    PRIMARY KEY (limit_name)
);""",
r"""DO $do$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT coalesce(quote_ident(grantee.rolname), 'PUBLIC') AS role
        FROM pg_class AS class
        CROSS JOIN aclexplode(class.relacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE privilege.grantee <> class.relowner
            AND class.oid = 'procrastinate_workers'::regclass
            AND privilege.privilege_type = 'INSERT'
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON procrastinate_turns TO %s', granted.role);
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
r"""ALTER TABLE procrastinate_limits ADD COLUMN fair BOOLEAN;""",
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
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0018' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0017';""",
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
r"""DELETE FROM procrastinate_limits AS defined
WHERE coalesce(
    defined.set_concurrency::text, defined.concurrency::text, defined.set_total::text, defined.total::text,
    defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates
) IS NULL;""",
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
        CROSS JOIN LATERAL (SELECT coalesce(defined.set_total, defined.total, CASE WHEN coalesce(defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates) IS NOT NULL THEN 2147483647 END)) AS total (number)
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
r"""ALTER TABLE procrastinate_limits DROP COLUMN fair;""",
r"""DROP TABLE procrastinate_turns;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0017' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0018';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1017_ended_in_order')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0018'),

    ]
