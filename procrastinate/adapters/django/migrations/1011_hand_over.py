# Generated from the Alembic revision procrastinate_0011: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""CREATE OR REPLACE FUNCTION procrastinate_unpark_next(released text[]) RETURNS void
LANGUAGE plpgsql
SET enable_nestloop = on SET enable_hashjoin = off SET enable_mergejoin = off
AS $function$
BEGIN
    IF current_setting('procrastinate.hand_over', true) = 'off' THEN
        RETURN;
    END IF;
    UPDATE procrastinate_jobs AS job SET readiness = 0
    FROM unnest(released) AS freed (lock)
    CROSS JOIN LATERAL (
        SELECT waiting.id
        FROM procrastinate_jobs AS waiting
        WHERE waiting.lock = freed.lock AND waiting.status = 'todo' AND waiting.readiness = 2
        ORDER BY waiting.priority DESC, waiting.id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS next
    WHERE job.id = next.id;
END
$function$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0011' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0010';""",
]

BACKWARD = [
r"""CREATE OR REPLACE FUNCTION procrastinate_unpark_next(released text[]) RETURNS void
LANGUAGE plpgsql
SET enable_nestloop = on SET enable_hashjoin = off SET enable_mergejoin = off
AS $function$
BEGIN
    UPDATE procrastinate_jobs AS job SET readiness = 0
    FROM unnest(released) AS freed (lock)
    CROSS JOIN LATERAL (
        SELECT waiting.id
        FROM procrastinate_jobs AS waiting
        WHERE waiting.lock = freed.lock AND waiting.status = 'todo' AND waiting.readiness = 2
        ORDER BY waiting.priority DESC, waiting.id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS next
    WHERE job.id = next.id;
END
$function$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0010' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0011';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1010_workflows')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0011'),

    ]
