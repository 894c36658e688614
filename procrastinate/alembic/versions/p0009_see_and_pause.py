"""Workers say what they do, runs are counted by the minute, and queues can be paused.

Only additions: columns of the workers that may be NULL, and tables. A worker written for p0008 runs on. It says
nothing of itself, counts nothing, and does not obey a pause.

Revision ID: procrastinate_0009
Revises: procrastinate_0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from procrastinate.alembic.locks import lock_tables
from procrastinate.alembic.replace_functions import execute_as_written

revision = "procrastinate_0009"
down_revision = "procrastinate_0008"
branch_labels = None
depends_on = None

WORKERS = "procrastinate_workers"
TABLES = (
    "procrastinate_task_lists",
    "procrastinate_statistics",
    "procrastinate_paused_queues",
    "procrastinate_operations",
)

# A worker written for p0008 knows the type and not the key, and looks for jobs, which does no harm. The number
# makes the message valid for it.
PAUSES_CHANGED = """
CREATE FUNCTION procrastinate_pauses_changed() RETURNS trigger
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
$function$
"""

TRIGGER = """
CREATE TRIGGER procrastinate_pauses_changed
AFTER INSERT OR UPDATE OR DELETE ON procrastinate_paused_queues
FOR EACH ROW EXECUTE FUNCTION procrastinate_pauses_changed()
"""

# A role that may write the workers may write what they tell.
COPY_GRANTS = f"""
DO $do$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT grantee.rolname AS role, privilege.privilege_type AS privilege, privilege.is_grantable
        FROM pg_class AS class
        CROSS JOIN aclexplode(class.relacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE class.oid = '{WORKERS}'::regclass AND privilege.grantee <> class.relowner
            AND privilege.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format(
            'GRANT %s ON {", ".join(TABLES)} TO %s%s',
            granted.privilege, coalesce(quote_ident(granted.role), 'PUBLIC'),
            CASE WHEN granted.is_grantable THEN ' WITH GRANT OPTION' END
        );
    END LOOP;
END
$do$
"""  # noqa: S608

# Jobs of a paused queue are parked, also those without a lock. Without pauses they would wait there for good.
UNPARK_PAUSED = """
UPDATE procrastinate_jobs SET readiness = 0 WHERE status = 'todo' AND readiness = 2 AND lock IS NULL
"""


def upgrade() -> None:
    _create_task_lists()
    _create_statistics()
    _create_paused_queues()
    _create_operations()
    execute_as_written(lock_tables())
    for column in _worker_columns():
        op.add_column(WORKERS, column)
    execute_as_written(COPY_GRANTS)


def downgrade() -> None:
    execute_as_written(lock_tables())
    execute_as_written(UNPARK_PAUSED)
    for table in TABLES:
        op.drop_table(table)
    execute_as_written("DROP FUNCTION procrastinate_pauses_changed()")
    for column in _worker_columns():
        op.drop_column(WORKERS, column.name)


def _worker_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("name", sa.Text),
        sa.Column("hostname", sa.Text),
        sa.Column("pid", sa.Integer),
        sa.Column("version", sa.Text),
        sa.Column("queues", postgresql.ARRAY(sa.Text)),
        sa.Column("concurrency", sa.Integer),
        sa.Column("listens", sa.Boolean),
        sa.Column("task_list", sa.Text),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("state", sa.Text),
        sa.Column("running", sa.Integer),
        sa.Column("running_ids", postgresql.ARRAY(sa.BigInteger)),
        sa.Column("fetched_ahead", sa.Integer),
        sa.Column("lost_threads", sa.Integer),
        sa.Column("unwritten", sa.Integer),
        sa.Column("loop_beat_at", sa.DateTime(timezone=True)),
        sa.Column("last_fetch_at", sa.DateTime(timezone=True)),
        sa.Column("last_error_code", sa.Text),
        sa.Column("last_error_at", sa.DateTime(timezone=True)),
        sa.Column("paused_queues", postgresql.ARRAY(sa.Text)),
    ]


def _create_task_lists() -> None:
    op.create_table(
        "procrastinate_task_lists",
        sa.Column("hash", sa.Text, primary_key=True),
        sa.Column("tasks", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    )


def _create_statistics() -> None:
    op.create_table(
        "procrastinate_statistics",
        sa.Column("seconds", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("queue_name", sa.String(128), primary_key=True),
        sa.Column("task_name", sa.String(128), primary_key=True),
        sa.Column("outcome", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("run_seconds", sa.Double, nullable=False),
        sa.Column("run_histogram", postgresql.ARRAY(sa.BigInteger), nullable=False),
        sa.Column("wait_count", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("wait_seconds", sa.Double, nullable=False, server_default=sa.text("0")),
        sa.Column("wait_histogram", postgresql.ARRAY(sa.BigInteger), nullable=False),
    )


def _create_paused_queues() -> None:
    op.create_table(
        "procrastinate_paused_queues",
        sa.Column("queue_name", sa.String(128), primary_key=True),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("paused_until", sa.DateTime(timezone=True)),
        sa.Column("paused_by", sa.Text),
        sa.Column("reason", sa.Text),
    )
    execute_as_written(PAUSES_CHANGED)
    execute_as_written(TRIGGER)


def _create_operations() -> None:
    op.create_table(
        "procrastinate_operations",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("filter", postgresql.JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
        sa.Column("requested_by", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("state", sa.Text, nullable=False, server_default=sa.text("'pending'::text")),
        sa.Column("expected", sa.BigInteger),
        sa.Column("done", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("skipped", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("reached_id", sa.BigInteger),
        sa.Column("last_id", sa.BigInteger),
        sa.Column("error", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
    )
