# Generated from the Alembic revision procrastinate_0004: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.operations import RunPostgreSQL

FORWARD = [
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
    dependencies = [('procrastinate', '1003_upcoming_in_order')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD),

    ]
