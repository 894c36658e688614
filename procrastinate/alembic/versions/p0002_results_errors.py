"""What jobs leave behind: the return value of one that succeeded, the error of each attempt that failed.

Only additions: a worker written for p0001 runs on.

Revision ID: procrastinate_0002
Revises: procrastinate_0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "procrastinate_0002"
down_revision = "procrastinate_0001"
branch_labels = None
depends_on = None

# By index, however many are deleted, as procrastinate_jobs_deleted; and also with a plan that was made when nothing was
# kept yet.
DETAILS_DELETED = """
CREATE FUNCTION procrastinate_details_deleted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_seqscan = off
AS $function$
BEGIN
    DELETE FROM procrastinate_results AS result USING deleted AS job WHERE result.job_id = job.id;
    DELETE FROM procrastinate_errors AS error USING deleted AS job WHERE error.job_id = job.id;
    RETURN NULL;
END
$function$
"""

TRIGGER = """
CREATE TRIGGER procrastinate_details_deleted AFTER DELETE ON procrastinate_jobs
REFERENCING OLD TABLE AS deleted
FOR EACH STATEMENT EXECUTE FUNCTION procrastinate_details_deleted()
"""


def upgrade() -> None:
    op.create_table(
        "procrastinate_results",
        sa.Column("job_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("value", postgresql.JSONB, nullable=False),
    )
    op.create_table(
        "procrastinate_errors",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("job_id", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("worker_id", sa.BigInteger),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("exception_class", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("traceback", sa.Text, nullable=False),
    )
    op.create_index("procrastinate_errors_job_id_idx", "procrastinate_errors", ["job_id"])
    for statement in (DETAILS_DELETED, TRIGGER):
        op.execute(sa.text(statement.strip().replace(":", r"\:")))


def downgrade() -> None:
    op.execute("DROP TRIGGER procrastinate_details_deleted ON procrastinate_jobs")
    op.execute("DROP FUNCTION procrastinate_details_deleted()")
    op.drop_table("procrastinate_errors")
    op.drop_table("procrastinate_results")
