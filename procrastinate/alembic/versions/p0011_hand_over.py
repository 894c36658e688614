"""A session can free a lock without changing the job that waits for it.

A trigger of the user may refuse to change the job that waits. The statement that frees the lock then fails. With the
setting ``procrastinate.hand_over`` it succeeds, and the sweep of a worker frees the job later, or passes it over.

A worker written for p0010 does not use the setting.

Revision ID: procrastinate_0011
Revises: procrastinate_0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from procrastinate.alembic.replace_functions import replaced
from procrastinate.alembic.versions import p0006_kept_together as sixth

revision = "procrastinate_0011"
down_revision = "procrastinate_0010"
branch_labels = None
depends_on = None

UNPARK_NEXT = replaced(
    sixth.UNPARK_NEXT,
    (
        "BEGIN\n",
        """BEGIN
    IF current_setting('procrastinate.hand_over', true) = 'off' THEN
        RETURN;
    END IF;
""",
    ),
)


def upgrade() -> None:
    op.execute(sa.text(UNPARK_NEXT.strip().replace(":", r"\:")))


def downgrade() -> None:
    op.execute(sa.text(replaced(sixth.UNPARK_NEXT).strip().replace(":", r"\:")))
