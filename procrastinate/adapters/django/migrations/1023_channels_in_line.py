# Generated from the Alembic revision procrastinate_0023: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""CREATE OR REPLACE FUNCTION procrastinate_queue_channel(queue_name text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $function$
    SELECT 'procrastinate_queue_v1#'
        || CASE WHEN octet_length(queue_name) <= 40 THEN queue_name ELSE md5(queue_name) END
$function$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0023' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0022';""",
]

BACKWARD = [
r"""CREATE OR REPLACE FUNCTION procrastinate_queue_channel(queue_name text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $function$
    SELECT 'procrastinate_queue_v1#'
        || CASE WHEN octet_length(queue_name) <= 40 THEN queue_name ELSE md5(queue_name) END
$function$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0022' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0023';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1022_plain_updates')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0023'),

    ]
