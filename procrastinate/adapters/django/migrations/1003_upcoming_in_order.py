# Generated from the Alembic revision procrastinate_0003: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""DROP INDEX procrastinate_jobs_upcoming_idx;""",
r"""CREATE INDEX procrastinate_jobs_upcoming_idx ON procrastinate_jobs (coalesce(scheduled_at, '-infinity'::timestamptz), priority DESC, id) WHERE status = 'todo' AND readiness = 0 AND (scheduled_at IS NOT NULL OR lock IS NOT NULL);""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0003' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0002';""",
]

BACKWARD = [
r"""DROP INDEX procrastinate_jobs_upcoming_idx;""",
r"""CREATE INDEX procrastinate_jobs_upcoming_idx ON procrastinate_jobs (coalesce(scheduled_at, '-infinity'::timestamptz)) WHERE status = 'todo' AND readiness = 0 AND (scheduled_at IS NOT NULL OR lock IS NOT NULL);""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0002' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0003';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1002_results_errors')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0003'),

    ]
