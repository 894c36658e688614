# Generated from the Alembic revision procrastinate_0009: do not edit.
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
    END LOOP;
    SELECT string_agg(DISTINCT pid::text, ', ') INTO others
    FROM pg_locks
    WHERE relation IN ('procrastinate_jobs'::regclass, 'procrastinate_workers'::regclass) AND granted AND pid <> pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
    RAISE EXCEPTION 'The tables of the queue are in use, and nothing was changed'
        USING ERRCODE = 'lock_not_available',
            DETAIL = 'Server processes with a lock on them: ' || coalesce(others, 'none any more'),
            HINT = 'End their transactions (pg_stat_activity shows them), and repeat the migration';
END
$do$;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN name TEXT;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN hostname TEXT;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN pid INTEGER;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN version TEXT;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN queues TEXT[];""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN concurrency INTEGER;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN listens BOOLEAN;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN task_list TEXT;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN started_at TIMESTAMP WITH TIME ZONE;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN state TEXT;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN running INTEGER;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN running_ids BIGINT[];""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN fetched_ahead INTEGER;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN lost_threads INTEGER;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN unwritten INTEGER;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN loop_beat_at TIMESTAMP WITH TIME ZONE;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN last_fetch_at TIMESTAMP WITH TIME ZONE;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN last_error_code TEXT;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN last_error_at TIMESTAMP WITH TIME ZONE;""",
r"""ALTER TABLE procrastinate_workers ADD COLUMN paused_queues TEXT[];""",
r"""CREATE TABLE procrastinate_task_lists (
    hash TEXT NOT NULL,
    tasks TEXT[] NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (hash)
);""",
r"""CREATE TABLE procrastinate_statistics (
    seconds INTEGER NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    queue_name VARCHAR(128) NOT NULL,
    task_name VARCHAR(128) NOT NULL,
    outcome TEXT NOT NULL,
    count BIGINT NOT NULL,
    run_seconds DOUBLE PRECISION NOT NULL,
    run_histogram BIGINT[] NOT NULL,
    wait_count BIGINT DEFAULT 0 NOT NULL,
    wait_seconds DOUBLE PRECISION DEFAULT 0 NOT NULL,
    wait_histogram BIGINT[] NOT NULL,
    PRIMARY KEY (seconds, at, queue_name, task_name, outcome)
);""",
r"""CREATE TABLE procrastinate_paused_queues (
    queue_name VARCHAR(128) NOT NULL,
    paused_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    paused_until TIMESTAMP WITH TIME ZONE,
    paused_by TEXT,
    reason TEXT,
    PRIMARY KEY (queue_name)
);""",
r"""CREATE FUNCTION procrastinate_pauses_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    changed record;
    payload text := '{"type": "job_inserted", "job_id": 1, "pauses": true}';
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    IF current_setting('procrastinate.notify', true) = 'off' THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        changed := OLD;
    ELSE
        changed := NEW;
    END IF;
    PERFORM pg_notify(procrastinate_queue_channel(changed.queue_name::text), payload);
    PERFORM pg_notify('procrastinate_any_queue_v1', payload);
    RETURN NULL;
END
$function$;""",
r"""CREATE TRIGGER procrastinate_pauses_changed
AFTER INSERT OR UPDATE OR DELETE ON procrastinate_paused_queues
FOR EACH ROW EXECUTE FUNCTION procrastinate_pauses_changed();""",
r"""CREATE TABLE procrastinate_operations (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY,
    kind TEXT NOT NULL,
    filter JSONB DEFAULT '{}'::jsonb NOT NULL,
    requested_by TEXT,
    reason TEXT,
    state TEXT DEFAULT 'pending'::text NOT NULL,
    expected BIGINT,
    done BIGINT DEFAULT 0 NOT NULL,
    skipped BIGINT DEFAULT 0 NOT NULL,
    reached_id BIGINT,
    last_id BIGINT,
    error TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE,
    finished_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (id)
);""",
r"""DO $do$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT grantee.rolname AS role, privilege.privilege_type AS privilege, privilege.is_grantable
        FROM pg_class AS class
        CROSS JOIN aclexplode(class.relacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE class.oid = 'procrastinate_workers'::regclass AND privilege.grantee <> class.relowner
            AND privilege.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format(
            'GRANT %s ON procrastinate_task_lists, procrastinate_statistics, procrastinate_paused_queues, procrastinate_operations TO %s%s',
            granted.privilege, coalesce(quote_ident(granted.role), 'PUBLIC'),
            CASE WHEN granted.is_grantable THEN ' WITH GRANT OPTION' END
        );
    END LOOP;
END
$do$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0009' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0008';""",
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
    END LOOP;
    SELECT string_agg(DISTINCT pid::text, ', ') INTO others
    FROM pg_locks
    WHERE relation IN ('procrastinate_jobs'::regclass, 'procrastinate_workers'::regclass) AND granted AND pid <> pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
    RAISE EXCEPTION 'The tables of the queue are in use, and nothing was changed'
        USING ERRCODE = 'lock_not_available',
            DETAIL = 'Server processes with a lock on them: ' || coalesce(others, 'none any more'),
            HINT = 'End their transactions (pg_stat_activity shows them), and repeat the migration';
END
$do$;""",
r"""UPDATE procrastinate_jobs SET readiness = 0 WHERE status = 'todo' AND readiness = 2 AND lock IS NULL;""",
r"""DROP TABLE procrastinate_task_lists;""",
r"""DROP TABLE procrastinate_statistics;""",
r"""DROP TABLE procrastinate_paused_queues;""",
r"""DROP TABLE procrastinate_operations;""",
r"""DROP FUNCTION procrastinate_pauses_changed();""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN name;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN hostname;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN pid;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN version;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN queues;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN concurrency;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN listens;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN task_list;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN started_at;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN state;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN running;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN running_ids;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN fetched_ahead;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN lost_threads;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN unwritten;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN loop_beat_at;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN last_fetch_at;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN last_error_code;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN last_error_at;""",
r"""ALTER TABLE procrastinate_workers DROP COLUMN paused_queues;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0008' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0009';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it takes over tables of 3.x
    dependencies = [('procrastinate', '1008_one_worker_a_job')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0009'),

    ]
