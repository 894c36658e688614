"""Writers notify only while some worker waits to be notified.

PostgreSQL lets one transaction that notifies commit at a time. A worker written for p0003 says nothing, and is
notified of everything, as before.

Revision ID: procrastinate_0004
Revises: procrastinate_0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from procrastinate.alembic.locks import lock_tables
from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0001_jobs_events_workers as first

revision = "procrastinate_0004"
down_revision = "procrastinate_0003"
branch_labels = None
depends_on = None

# Called from the triggers, with their search_path. A transaction that reads an older state of the table than the
# latest cannot know, and notifies; so does a role that may not read it, and everybody while no worker is registered.
NOTIFY_WAITING = """
CREATE OR REPLACE FUNCTION procrastinate_notify_waiting(queue_name text, job_id bigint, upcoming boolean) RETURNS void
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
$function$
"""


def upgrade() -> None:
    execute_as_written(lock_tables())
    op.add_column(
        "procrastinate_workers",
        sa.Column("called_for", postgresql.ARRAY(sa.Text), server_default=sa.text("'{}'::text[]")),
    )
    execute_as_written(NOTIFY_WAITING)


def downgrade() -> None:
    execute_as_written(lock_tables())
    execute_as_written(replaced(first.NOTIFY_WAITING))
    op.drop_column("procrastinate_workers", "called_for")
