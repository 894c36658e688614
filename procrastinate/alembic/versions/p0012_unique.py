"""Unique jobs: one row for each unique key, with the job that holds it.

Only a defer of a job with a unique key reads or writes this table, and no other table changes. A worker
written for p0011 runs these jobs like any others.

Revision ID: procrastinate_0012
Revises: procrastinate_0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0010_workflows as former

revision = "procrastinate_0012"
down_revision = "procrastinate_0011"
branch_labels = None
depends_on = None

# Who may defer or run jobs may take keys and delete old ones, and who may read jobs may read keys.
GRANT_TO_CLIENTS = """
DO $do$
DECLARE
    client record;
BEGIN
    FOR client IN
        SELECT
            coalesce(quote_ident(grantee.rolname), 'PUBLIC') AS role,
            bool_or(privilege.privilege_type <> 'SELECT') AS writes
        FROM pg_class AS class
        CROSS JOIN aclexplode(class.relacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE class.oid = 'procrastinate_jobs'::regclass
            AND privilege.grantee <> class.relowner
            AND privilege.privilege_type IN ('SELECT', 'INSERT', 'UPDATE')
        GROUP BY role
    LOOP
        EXECUTE format(
            'GRANT %s ON procrastinate_uniques TO %s',
            CASE WHEN client.writes THEN 'SELECT, INSERT, UPDATE, DELETE' ELSE 'SELECT' END,
            client.role
        );
    END LOOP;
END
$do$
"""

JOBS_TRUNCATED = replaced(former.JOBS_TRUNCATED, ("ARRAY['workflows', ", "ARRAY['uniques', 'workflows', "))


def upgrade() -> None:
    op.create_table(
        "procrastinate_uniques",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("job_id", sa.BigInteger, nullable=False),
        sa.Column("until", sa.Text, nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("start_by", sa.DateTime(timezone=True)),
    )
    op.create_index("procrastinate_uniques_job_id_idx", "procrastinate_uniques", ["job_id"])
    execute_as_written(GRANT_TO_CLIENTS)
    execute_as_written(JOBS_TRUNCATED)


def downgrade() -> None:
    execute_as_written(replaced(former.JOBS_TRUNCATED))
    op.drop_table("procrastinate_uniques")
