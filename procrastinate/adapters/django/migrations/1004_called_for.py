# Generated from the Alembic revision procrastinate_0004: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
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
r"""ALTER TABLE procrastinate_workers ADD COLUMN called_for TEXT[] DEFAULT '{}'::text[];""",
r"""CREATE OR REPLACE FUNCTION procrastinate_notify_waiting(queue_name text, job_id bigint, upcoming boolean) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    payload text;
    is_awaited boolean;
BEGIN
    IF current_setting('transaction_isolation') = 'read committed'
        AND has_table_privilege('procrastinate_workers', 'SELECT')
    THEN
        SELECT bool_or(
            worker.called_for IS NOT NULL AND (worker.called_for = '{}' OR queue_name = ANY (worker.called_for))
        )
        INTO is_awaited
        FROM procrastinate_workers AS worker;
        IF NOT is_awaited THEN
            RETURN;
        END IF;
    END IF;
    payload := json_build_object('type', 'job_inserted', 'job_id', job_id, 'upcoming', upcoming)::text;
    PERFORM pg_notify(procrastinate_queue_channel(queue_name), payload);
    PERFORM pg_notify('procrastinate_any_queue_v1', payload);
END
$function$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0004' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0003';""",
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
r"""CREATE OR REPLACE FUNCTION procrastinate_notify_waiting(queue_name text, job_id bigint, upcoming boolean) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    payload text := json_build_object('type', 'job_inserted', 'job_id', job_id, 'upcoming', upcoming)::text;
BEGIN
    PERFORM pg_notify(procrastinate_queue_channel(queue_name), payload);
    PERFORM pg_notify('procrastinate_any_queue_v1', payload);
END
$function$;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN called_for;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0003' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0004';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1003_upcoming_in_order')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0004'),

    ]
