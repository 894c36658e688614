# Generated from the Alembic revision procrastinate_0013: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""CREATE TABLE procrastinate_job_reports (
    job_id BIGINT NOT NULL,
    attempt INTEGER NOT NULL,
    kind TEXT NOT NULL,
    worker_id BIGINT,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    content JSONB NOT NULL,
    PRIMARY KEY (job_id, attempt, kind)
);""",
r"""ALTER TABLE procrastinate_job_reports SET (fillfactor = 50);""",
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
r"""ALTER TABLE procrastinate_jobs ADD COLUMN meta JSONB;""",
r"""ALTER TABLE procrastinate_jobs ADD COLUMN trace_context JSONB;""",
r"""DO $do$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT
            coalesce(quote_ident(grantee.rolname), 'PUBLIC') AS role,
            CASE
                WHEN bool_or(privilege.privilege_type IN ('UPDATE', 'DELETE')) THEN 'SELECT, INSERT, UPDATE, DELETE'
                ELSE 'SELECT'
            END AS privileges
        FROM pg_class AS class
        CROSS JOIN aclexplode(class.relacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE class.oid = 'procrastinate_jobs'::regclass
            AND privilege.grantee <> class.relowner
            AND privilege.privilege_type IN ('SELECT', 'UPDATE', 'DELETE')
        GROUP BY 1
    LOOP
        EXECUTE format('GRANT %s ON procrastinate_job_reports TO %s', granted.privileges, granted.role);
    END LOOP;
    FOR granted IN
        SELECT coalesce(quote_ident(grantee.rolname), 'PUBLIC') AS role, privilege.privilege_type AS privileges
        FROM pg_attribute AS attribute
        CROSS JOIN aclexplode(attribute.attacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE attribute.attrelid = 'procrastinate_jobs'::regclass AND attribute.attname = 'args'
    LOOP
        EXECUTE format(
            'GRANT %1$s (meta), %1$s (trace_context) ON procrastinate_jobs TO %2$s', granted.privileges, granted.role
        );
    END LOOP;
END
$do$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_details_deleted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_seqscan = off
AS $function$
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    DELETE FROM procrastinate_results AS result USING deleted AS job WHERE result.job_id = job.id;
    DELETE FROM procrastinate_errors AS error USING deleted AS job WHERE error.job_id = job.id;
    DELETE FROM procrastinate_job_reports AS report USING deleted AS job WHERE report.job_id = job.id;
    RETURN NULL;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_truncated() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    part text;
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    FOREACH part IN ARRAY ARRAY['job_reports', 'uniques', 'workflows', 'dependencies', 'arrivals', 'events', 'results', 'errors', 'periodic_defers'] LOOP
        IF pg_relation_size(format('procrastinate_%s', part)::regclass) > 0 THEN
            EXECUTE format('TRUNCATE procrastinate_%s', part);
        END IF;
    END LOOP;
    RETURN NULL;
END
$function$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0013' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0012';""",
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
r"""CREATE OR REPLACE FUNCTION procrastinate_details_deleted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_seqscan = off
AS $function$
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    DELETE FROM procrastinate_results AS result USING deleted AS job WHERE result.job_id = job.id;
    DELETE FROM procrastinate_errors AS error USING deleted AS job WHERE error.job_id = job.id;
    RETURN NULL;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_truncated() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    part text;
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    FOREACH part IN ARRAY ARRAY['uniques', 'workflows', 'dependencies', 'arrivals', 'events', 'results', 'errors', 'periodic_defers'] LOOP
        IF pg_relation_size(format('procrastinate_%s', part)::regclass) > 0 THEN
            EXECUTE format('TRUNCATE procrastinate_%s', part);
        END IF;
    END LOOP;
    RETURN NULL;
END
$function$;""",
r"""DROP TABLE procrastinate_job_reports;""",
r"""ALTER TABLE procrastinate_jobs DROP COLUMN meta;""",
r"""ALTER TABLE procrastinate_jobs DROP COLUMN trace_context;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0012' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0013';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1012_unique')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0013'),

    ]
