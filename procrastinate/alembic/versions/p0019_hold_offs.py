"""Hold-offs: a key of a limit gives no slots until a time.

Only an admission gives slots of a key that is held off, so a job that leaves hands its slot to no other job, and a job
that a worker gives back gets in line. A worker written for p0018 admits jobs of such a key. It knows no hold-offs.

Revision ID: procrastinate_0019
Revises: procrastinate_0018
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from procrastinate.alembic.locks import lock_tables
from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0015_rates as fifteenth
from procrastinate.alembic.versions import p0018_turns as former

revision = "procrastinate_0019"
down_revision = "procrastinate_0018"
branch_labels = None
depends_on = None

_IS_HELD_OFF = """EXISTS (
            SELECT FROM procrastinate_hold_offs AS hold_off
            WHERE hold_off.limit_name = {name} AND hold_off.limit_key = {key} AND hold_off.until > clock_timestamp()
        )"""

# The slot is left to an admission, as it is for a limit with a rate.
HAND_OVER = replaced(
    former.HAND_OVER,
    (
        " OR defined.fair THEN",
        f" OR defined.fair OR {_IS_HELD_OFF.format(name='freed.name', key='freed.key')} THEN",
    ),
)

_RETURNED = "defined.name = job.limit_name AND "
JOBS_UPDATED = replaced(
    fifteenth.JOBS_UPDATED,
    (
        f"ANY (returned) AND {_RETURNED}{fifteenth.HAS_RATE};",
        f"ANY (returned) AND {_RETURNED}("
        f"{fifteenth.HAS_RATE} OR {_IS_HELD_OFF.format(name='job.limit_name', key='job.limit_key')});",
    ),
)

JOBS_TRUNCATED = replaced(fifteenth.JOBS_TRUNCATED, ("ARRAY['starts', ", "ARRAY['hold_offs', 'starts', "))

# A role that ends jobs reads the hold-offs in a trigger, as it reads the limits.
GRANT = """
DO $do$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT class.relname, coalesce(quote_ident(grantee.rolname), 'PUBLIC') AS role
        FROM pg_class AS class
        CROSS JOIN aclexplode(class.relacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE privilege.grantee <> class.relowner AND (
            (class.oid = 'procrastinate_limits'::regclass AND privilege.privilege_type = 'SELECT')
            OR (class.oid = 'procrastinate_workers'::regclass AND privilege.privilege_type = 'INSERT')
        )
    LOOP
        EXECUTE format('GRANT SELECT ON procrastinate_hold_offs TO %s', granted.role);
        IF granted.relname = 'procrastinate_workers' THEN
            EXECUTE format('GRANT INSERT, UPDATE, DELETE ON procrastinate_hold_offs TO %s', granted.role);
        END IF;
    END LOOP;
END
$do$
"""


def upgrade() -> None:
    op.create_table(
        "procrastinate_hold_offs",
        sa.Column("limit_name", sa.Text, primary_key=True),
        sa.Column("limit_key", sa.Text, primary_key=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
    )
    execute_as_written(GRANT)
    execute_as_written(lock_tables())
    for statement in (HAND_OVER, JOBS_UPDATED, JOBS_TRUNCATED):
        execute_as_written(statement)


def downgrade() -> None:
    execute_as_written(lock_tables())
    for statement in (former.HAND_OVER, fifteenth.JOBS_UPDATED, fifteenth.JOBS_TRUNCATED):
        execute_as_written(replaced(statement))
    op.drop_table("procrastinate_hold_offs")
