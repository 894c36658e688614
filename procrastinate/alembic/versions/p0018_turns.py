"""Fair limits: the keys take turns.

The key that got the last slot has a table of its own, which an admission alone writes. An operator who sets a limit
locks its row, and no admission waits for that.

Only an admission knows whose turn it is, so a job that leaves hands its slot to no other job. A worker
written for p0017 admits jobs of such a limit by its numbers. It knows no turns.

Revision ID: procrastinate_0018
Revises: procrastinate_0017
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from procrastinate.alembic.locks import lock_tables
from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0015_rates as former

revision = "procrastinate_0018"
down_revision = "procrastinate_0017"
branch_labels = None
depends_on = None

HAND_OVER = replaced(former.HAND_OVER, ("IS NOT NULL THEN 2147483647", "IS NOT NULL OR defined.fair THEN 2147483647"))

GRANT = """
DO $do$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT coalesce(quote_ident(grantee.rolname), 'PUBLIC') AS role
        FROM pg_class AS class
        CROSS JOIN aclexplode(class.relacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE privilege.grantee <> class.relowner
            AND class.oid = 'procrastinate_workers'::regclass
            AND privilege.privilege_type = 'INSERT'
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON procrastinate_turns TO %s', granted.role);
    END LOOP;
END
$do$
"""


def upgrade() -> None:
    op.create_table(
        "procrastinate_turns",
        sa.Column("limit_name", sa.Text, primary_key=True),
        sa.Column("last_key", sa.Text, nullable=False),
    )
    execute_as_written(GRANT)
    execute_as_written(lock_tables())
    op.add_column("procrastinate_limits", sa.Column("fair", sa.Boolean))
    execute_as_written(HAND_OVER)


# A worker written for p0017 lets all jobs run of a limit that has no number. Without a row, the limit is one that no
# worker has defined, and its jobs wait. No job is changed, so the tables are not locked for long.
FORGET_LIMITS = """
DELETE FROM procrastinate_limits AS defined
WHERE coalesce(
    defined.set_concurrency::text, defined.concurrency::text, defined.set_total::text, defined.total::text,
    defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates
) IS NULL
"""


def downgrade() -> None:
    execute_as_written(lock_tables())
    execute_as_written(FORGET_LIMITS)
    execute_as_written(replaced(former.HAND_OVER))
    op.drop_column("procrastinate_limits", "fair")
    op.drop_table("procrastinate_turns")
