# Generated from the Alembic revision procrastinate_0017: do not edit.
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
r"""DO $do$
BEGIN
IF EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('procrastinate_jobs_ended_idx') AND NOT indisvalid) THEN
    DROP INDEX procrastinate_jobs_ended_idx;
END IF;
CREATE INDEX IF NOT EXISTS procrastinate_jobs_ended_idx ON procrastinate_jobs (status, finished_at, id) WHERE finished_at IS NOT NULL;
END
$do$;""",
r"""DROP INDEX procrastinate_jobs_finished_idx;""",
r"""ALTER INDEX procrastinate_jobs_ended_idx RENAME TO procrastinate_jobs_finished_idx;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0017' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0016';""",
]

BACKWARD = [
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0016' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0017';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1016_next_steps')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0017'),

    ]
