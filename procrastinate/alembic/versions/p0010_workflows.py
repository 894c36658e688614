"""Workflows: jobs that wait for other jobs, and groups of jobs that end together.

A job of a workflow names its group, and a job that waits for others is in no index that a fetch reads. When a job of a
workflow ends, the triggers note it among the arrivals, in the same transaction. Workers read the arrivals and let the
next jobs go. Jobs outside of workflows leave the new columns empty and are in none of the new indexes.

A worker written for p0009 neither fetches nor promotes a job that waits for others. It fetches a job that may run,
and its end is noted. It lets no job go.

Revision ID: procrastinate_0010
Revises: procrastinate_0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from procrastinate.alembic.ahead import Ahead
from procrastinate.alembic.locks import lock_tables
from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0006_kept_together as sixth
from procrastinate.alembic.versions import p0008_one_worker_a_job as former

revision = "procrastinate_0010"
down_revision = "procrastinate_0009"
branch_labels = None
depends_on = None

# The ends of a statement are one row, and those of a huge statement a few. The notification wakes one worker.
ARRIVE = """
CREATE FUNCTION procrastinate_arrive(queue_name text, ended bigint[], groups bigint[], lost bigint[]) RETURNS void
LANGUAGE plpgsql
AS $function$
BEGIN
    FOR start IN 1..cardinality(ended) BY 500 LOOP
        INSERT INTO procrastinate_arrivals (ended, groups, lost)
        VALUES (
            ended[start:start + 499],
            CASE WHEN start = 1 THEN groups ELSE '{}' END,
            CASE WHEN start = 1 THEN lost ELSE '{}' END
        );
    END LOOP;
    PERFORM procrastinate_notify_waiting(queue_name, ended[cardinality(ended)], true, 1);
END
$function$
"""

# Who may run jobs may let the next ones go.
GRANT_TO_WORKERS = """
DO $do$
DECLARE
    tables text := 'procrastinate_workflows, procrastinate_dependencies, procrastinate_arrivals';
    worker record;
BEGIN
    FOR worker IN
        SELECT DISTINCT coalesce(quote_ident(grantee.rolname), 'PUBLIC') AS role
        FROM pg_class AS class
        CROSS JOIN aclexplode(class.relacl) AS privilege
        LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
        WHERE class.oid = 'procrastinate_jobs'::regclass
            AND privilege.grantee <> class.relowner
            AND privilege.privilege_type = 'UPDATE'
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s', tables, worker.role);
    END LOOP;
END
$do$
"""

# A step that waits for others has an endless schedule, which is no news.
JOBS_INSERTED = replaced(
    former.JOBS_INSERTED,
    (
        "WHERE job.status = 'todo' AND event.at IS NOT NULL\n",
        "WHERE job.status = 'todo' AND event.at IS NOT NULL AND (job.readiness <> 5 OR event.type = 'deferred')\n",
    ),
    ("WHERE job.status = 'todo'\n    GROUP BY", "WHERE job.status = 'todo' AND job.readiness <> 5\n    GROUP BY"),
    ("job.readiness NOT IN (0, 1, 2", "job.readiness NOT IN (5, 0, 1, 2"),
)

JOBS_UPDATED = replaced(
    former.JOBS_UPDATED,
    (
        "            job.status <> was.status AS is_moved,\n",
        """            job.status <> was.status AS is_moved,
            job.workflow_id,
            job.workflow_id IS NOT NULL
                AND was.status IN ('todo', 'doing', 'aborting')
                AND job.status NOT IN ('todo', 'doing', 'aborting') AS is_ended_member,
""",
    ),
    ("job.readiness NOT IN (0, 1, 2", "job.readiness NOT IN (5, 0, 1, 2"),
    (
        "    told AS (\n",
        """    arrived AS (
        SELECT procrastinate_arrive(queue_name::text, array_agg(id), array_agg(DISTINCT workflow_id), '{}')
        FROM changed
        WHERE is_ended_member
        GROUP BY queue_name
    ),
    told AS (
""",
    ),
    ("(SELECT count(*) FROM woken)", "(SELECT count(*) FROM woken) + (SELECT count(*) FROM arrived)"),
)

# A job that is deleted before its end is lost, and nothing that needs its success may run.
JOBS_DELETED = replaced(
    sixth.JOBS_DELETED,
    (
        "    RETURN NULL;\nEND\n",
        """    IF EXISTS (SELECT FROM deleted WHERE workflow_id IS NOT NULL) THEN
        DELETE FROM procrastinate_dependencies AS dependency USING deleted AS job WHERE dependency.job_id = job.id;
        PERFORM procrastinate_arrive(
            job.queue_name::text, array_agg(job.id), array_agg(DISTINCT job.workflow_id), array_agg(job.workflow_id)
        )
        FROM deleted AS job
        WHERE job.workflow_id IS NOT NULL AND job.status IN ('todo', 'doing', 'aborting')
        GROUP BY job.queue_name;
    END IF;
    RETURN NULL;
END
""",
    ),
)

JOBS_TRUNCATED = replaced(
    sixth.JOBS_TRUNCATED, ("ARRAY['events', ", "ARRAY['workflows', 'dependencies', 'arrivals', 'events', ")
)

_FORMER = (former.JOBS_INSERTED, former.JOBS_UPDATED, sixth.JOBS_DELETED, sixth.JOBS_TRUNCATED)

# A job that waits for others has nothing to wait for any more. It stays where it is, without a readiness that a
# worker written for p0009 does not know.
NOTHING_TO_WAIT_FOR = """
UPDATE procrastinate_jobs SET readiness = 0 WHERE workflow_id IS NOT NULL AND status = 'todo' AND readiness = 5
"""

AHEAD = Ahead(
    columns={"workflow_id": "bigint", "step": "text"},
    indexes={"procrastinate_jobs_workflow_idx": "(workflow_id, status) WHERE workflow_id IS NOT NULL"},
)


def upgrade() -> None:
    _create_workflows()
    _create_dependencies()
    _create_arrivals()
    execute_as_written(lock_tables())
    for statement in AHEAD.within_revision():
        execute_as_written(statement)
    execute_as_written(GRANT_TO_WORKERS)
    for statement in (ARRIVE, JOBS_INSERTED, JOBS_UPDATED, JOBS_DELETED, JOBS_TRUNCATED):
        execute_as_written(statement)


def _create_workflows() -> None:
    count = {"nullable": False, "server_default": sa.text("0")}
    op.create_table(
        "procrastinate_workflows",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("root_id", sa.BigInteger, nullable=False),
        sa.Column("parent_id", sa.BigInteger),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("if_failed", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("cancelled_at", sa.DateTime(timezone=True)),
        sa.Column("succeeded", sa.BigInteger, **count),
        sa.Column("failed", sa.BigInteger, **count),
        sa.Column("cancelled", sa.BigInteger, **count),
        sa.Column("aborted", sa.BigInteger, **count),
        sa.Column("lost", sa.BigInteger, **count),
    )
    for name, column, where in (
        ("root", "root_id", None),
        ("open_parent", "parent_id", "parent_id IS NOT NULL AND finished_at IS NULL"),
        ("finished", "finished_at", "parent_id IS NULL AND finished_at IS NOT NULL"),
    ):
        op.create_index(
            f"procrastinate_workflows_{name}_idx",
            "procrastinate_workflows",
            [column],
            postgresql_where=None if where is None else sa.text(where),
        )


def _create_dependencies() -> None:
    op.create_table(
        "procrastinate_dependencies",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("job_id", sa.BigInteger, nullable=False),
        sa.Column("parent_id", sa.BigInteger),
        sa.Column("parent_workflow_id", sa.BigInteger),
        sa.Column("rule", sa.SmallInteger, nullable=False),
        sa.Column("argument", postgresql.JSONB),
        sa.Column("delay", sa.Double),
        sa.Column("is_closed", sa.Boolean, nullable=False, server_default=sa.text("false")),
    )
    for name, column, where in (
        ("job_id", "job_id", None),
        ("open", "job_id", "NOT is_closed"),
        ("parent_id", "parent_id", "parent_id IS NOT NULL"),
        ("parent_workflow_id", "parent_workflow_id", "parent_workflow_id IS NOT NULL"),
    ):
        op.create_index(
            f"procrastinate_dependencies_{name}_idx",
            "procrastinate_dependencies",
            [column],
            postgresql_where=None if where is None else sa.text(where),
        )


def _create_arrivals() -> None:
    ids = {"nullable": False, "server_default": sa.text("'{}'::bigint[]")}
    op.create_table(
        "procrastinate_arrivals",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        *(sa.Column(name, postgresql.ARRAY(sa.BigInteger), **ids) for name in ("ended", "groups", "waiting", "lost")),
    )


def downgrade() -> None:
    execute_as_written(lock_tables())
    for statement in _FORMER:
        execute_as_written(replaced(statement))
    execute_as_written("DROP FUNCTION procrastinate_arrive(text, bigint[], bigint[], bigint[])")
    for table in ("arrivals", "dependencies", "workflows"):
        op.drop_table(f"procrastinate_{table}")
    execute_as_written(NOTHING_TO_WAIT_FOR)
    for column in AHEAD.columns:
        op.drop_column("procrastinate_jobs", column)
