"""The function that names the channel of a queue is no longer STRICT, so that PostgreSQL puts its text in its place.

A STRICT function whose text is a CASE is called, because the text may have another answer for NULL. A call of a
function in SQL starts a query, which took 20 of the 79 µs of a single insert (processor time of the server, PostgreSQL
15). The name of a queue is never NULL, and the answer for NULL stays NULL.

Revision ID: procrastinate_0023
Revises: procrastinate_0022
"""

from __future__ import annotations

from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0001_jobs_events_workers as former

revision = "procrastinate_0023"
down_revision = "procrastinate_0022"
branch_labels = None
depends_on = None

QUEUE_CHANNEL = replaced(former.QUEUE_CHANNEL, ("IMMUTABLE STRICT PARALLEL", "IMMUTABLE PARALLEL"))


def upgrade() -> None:
    execute_as_written(QUEUE_CHANNEL)


def downgrade() -> None:
    execute_as_written(replaced(former.QUEUE_CHANNEL))
