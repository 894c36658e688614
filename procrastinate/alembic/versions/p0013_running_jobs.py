"""What a job carries for its observers, and what its runs report.

A job carries the context of the trace that it was deferred in, and a description by the program that deferred it. Both
columns are new, without a default, so that no row is written. Runs report to a table of its own, which is empty until a
task reports. Reports are deleted with their job, as errors and results are.

A worker written for p0012 leaves the new columns and the table alone.

Revision ID: procrastinate_0013
Revises: procrastinate_0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from procrastinate.alembic.locks import lock_tables
from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0006_kept_together as sixth
from procrastinate.alembic.versions import p0012_unique as former

revision = "procrastinate_0013"
down_revision = "procrastinate_0012"
branch_labels = None
depends_on = None

REPORTS = "procrastinate_job_reports"

DETAILS_DELETED = replaced(
    sixth.DETAILS_DELETED,
    (
        "    RETURN NULL;\n",
        """    DELETE FROM procrastinate_job_reports AS report USING deleted AS job WHERE report.job_id = job.id;
    RETURN NULL;
""",
    ),
)

JOBS_TRUNCATED = replaced(former.JOBS_TRUNCATED, ("ARRAY['uniques', ", "ARRAY['job_reports', 'uniques', "))

# Who runs or deletes jobs may write and delete their reports, and who reads jobs may read them. A role whose rights are
# on single columns has the rights on the arguments on the new columns as well.
GRANT = f"""
DO $do$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT
            coalesce(quote_ident(grantee.rolname), 'PUBLIC') AS role,
            CASE
                WHEN bool_or(privilege.privilege_type IN ('UPDATE', 'DELETE')) THEN 'SELECT, INSERT, UPDATE, DELETE'
                ELSE 'SELECT'
            END AS privileges
        FROM pg_class AS class
        CROSS JOIN aclexplode(class.relacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE class.oid = 'procrastinate_jobs'::regclass
            AND privilege.grantee <> class.relowner
            AND privilege.privilege_type IN ('SELECT', 'UPDATE', 'DELETE')
        GROUP BY 1
    LOOP
        EXECUTE format('GRANT %s ON {REPORTS} TO %s', granted.privileges, granted.role);
    END LOOP;
    FOR granted IN
        SELECT coalesce(quote_ident(grantee.rolname), 'PUBLIC') AS role, privilege.privilege_type AS privileges
        FROM pg_attribute AS attribute
        CROSS JOIN aclexplode(attribute.attacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE attribute.attrelid = 'procrastinate_jobs'::regclass AND attribute.attname = 'args'
    LOOP
        EXECUTE format(
            'GRANT %1$s (meta), %1$s (trace_context) ON procrastinate_jobs TO %2$s', granted.privileges, granted.role
        );
    END LOOP;
END
$do$
"""  # noqa: S608

_COLUMNS = ("meta", "trace_context")


def upgrade() -> None:
    op.create_table(
        REPORTS,
        sa.Column("job_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("worker_id", sa.BigInteger),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("content", postgresql.JSONB, nullable=False),
    )
    # A report changes once a second. The new version of its row finds room on the same page.
    execute_as_written(f"ALTER TABLE {REPORTS} SET (fillfactor = 50)")
    execute_as_written(lock_tables())
    for column in _COLUMNS:
        op.add_column("procrastinate_jobs", sa.Column(column, postgresql.JSONB))
    execute_as_written(GRANT)
    for statement in (DETAILS_DELETED, JOBS_TRUNCATED):
        execute_as_written(statement)


def downgrade() -> None:
    execute_as_written(lock_tables())
    for statement in (sixth.DETAILS_DELETED, former.JOBS_TRUNCATED):
        execute_as_written(replaced(statement))
    op.drop_table(REPORTS)
    for column in _COLUMNS:
        op.drop_column("procrastinate_jobs", column)
