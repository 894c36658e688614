"""The ended jobs in the order in which lists show them.

Lists show the jobs of a state by the time of their end, and by id if several ended at the same time. All jobs that had
ended when tables of 3.x were upgraded have one such time, and so have jobs that one statement ends. The index so far
had no id, so a list of 50 of them sorted all: 1.2 seconds with 10 million jobs.

The wider index takes the name of the one so far. It serves workers written for p0016 as well, so a
downgrade leaves it.

Revision ID: procrastinate_0017
Revises: procrastinate_0016
"""

from __future__ import annotations

from alembic import op

from procrastinate.alembic.ahead import Ahead
from procrastinate.alembic.locks import lock_tables

revision = "procrastinate_0017"
down_revision = "procrastinate_0016"
branch_labels = None
depends_on = None

ENDED = "procrastinate_jobs_ended_idx"
"""The name of the index until it takes the other's."""

AHEAD = Ahead(
    columns={},
    indexes={ENDED: "(status, finished_at, id) WHERE finished_at IS NOT NULL"},
)


def upgrade() -> None:
    op.execute(lock_tables())
    for statement in AHEAD.within_revision():
        op.execute(statement)
    op.execute("DROP INDEX procrastinate_jobs_finished_idx")
    op.execute(f"ALTER INDEX {ENDED} RENAME TO procrastinate_jobs_finished_idx")


def downgrade() -> None:
    """Leave the index, which has all that the narrower one had."""
