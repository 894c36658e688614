# Generated from the Alembic revision procrastinate_0012: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""CREATE TABLE procrastinate_uniques (
    key TEXT NOT NULL,
    job_id BIGINT NOT NULL,
    until TEXT NOT NULL,
    taken_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    start_by TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (key)
);""",
r"""CREATE INDEX procrastinate_uniques_job_id_idx ON procrastinate_uniques (job_id);""",
r"""DO $do$
DECLARE
    client record;
BEGIN
    FOR client IN
        SELECT
            coalesce(quote_ident(grantee.rolname), 'PUBLIC') AS role,
            bool_or(privilege.privilege_type <> 'SELECT') AS writes
        FROM pg_class AS class
        CROSS JOIN aclexplode(class.relacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE class.oid = 'procrastinate_jobs'::regclass
            AND privilege.grantee <> class.relowner
            AND privilege.privilege_type IN ('SELECT', 'INSERT', 'UPDATE')
        GROUP BY role
    LOOP
        EXECUTE format(
            'GRANT %s ON procrastinate_uniques TO %s',
            CASE WHEN client.writes THEN 'SELECT, INSERT, UPDATE, DELETE' ELSE 'SELECT' END,
            client.role
        );
    END LOOP;
END
$do$;""",
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
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0012' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0011';""",
]

BACKWARD = [
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
    FOREACH part IN ARRAY ARRAY['workflows', 'dependencies', 'arrivals', 'events', 'results', 'errors', 'periodic_defers'] LOOP
        IF pg_relation_size(format('procrastinate_%s', part)::regclass) > 0 THEN
            EXECUTE format('TRUNCATE procrastinate_%s', part);
        END IF;
    END LOOP;
    RETURN NULL;
END
$function$;""",
r"""DROP TABLE procrastinate_uniques;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0011' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0012';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1011_hand_over')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0012'),

    ]
