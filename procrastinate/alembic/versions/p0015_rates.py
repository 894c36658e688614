"""Rates: how many jobs of a limit may start in any window of time.

The claim of a job whose limit has a rate records its start, with the server's clock, in the same statement. Jobs of
other limits, and jobs without one, write nothing more. Only an admission gives slots of a limit with a rate, so a job
that leaves hands its slot to no other job, and a job that a worker gives back gets in line.

A worker written for p0014 admits jobs of such a limit by its other numbers. It knows no rates.

Revision ID: procrastinate_0015
Revises: procrastinate_0014
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from procrastinate.alembic.locks import lock_tables
from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0014_limits as former

revision = "procrastinate_0015"
down_revision = "procrastinate_0014"
branch_labels = None
depends_on = None

HAS_RATE = "coalesce(defined.set_rates, defined.rates, defined.set_total_rates, defined.total_rates) IS NOT NULL"

# A total without an end: the slot is left to an admission, as it is for every limit with a total.
HAND_OVER = replaced(
    former.HAND_OVER,
    (
        "SELECT coalesce(defined.set_total, defined.total)",
        f"SELECT coalesce(defined.set_total, defined.total, CASE WHEN {HAS_RATE} THEN 2147483647 END)",
    ),
)

# A job with a slot of a rate starts once. One that comes back unstarted could start again, uncounted by any admission.
JOBS_UPDATED = replaced(
    former.JOBS_UPDATED,
    ("    has_line boolean;\n", "    has_line boolean;\n    has_start boolean;\n    returned bigint[];\n"),
    (
        " AS is_in_line,\n",
        """ AS is_in_line,
            job.limit_name IS NOT NULL AND (was.status, job.status) = ('todo', 'doing') AS is_start,
            job.limit_name IS NOT NULL AND (was.status, job.status, job.readiness) = ('doing', 'todo', 1)
                AS is_returned,
""",
    ),
    (
        "        bool_or(is_in_line),\n",
        "        bool_or(is_in_line),\n        bool_or(is_start),\n        array_agg(id) FILTER (WHERE is_returned),\n",
    ),
    ("left_keys, has_line, one_id", "left_keys, has_line, has_start, returned, one_id"),
    (
        "    IF released IS NOT NULL OR left_names IS NOT NULL THEN\n",
        """    IF has_start AND NOT is_restoring THEN
        INSERT INTO procrastinate_starts (limit_name, limit_key, at)
        SELECT job.limit_name, job.limit_key, clock_timestamp()
        FROM before_update AS was
        JOIN after_update AS job ON job.id = was.id
        JOIN procrastinate_limits AS defined ON defined.name = job.limit_name
        WHERE (was.status, job.status) = ('todo', 'doing') AND has_rate;
    END IF;
    IF returned IS NOT NULL THEN
        UPDATE procrastinate_jobs AS job SET readiness = 3, scheduled_at = coalesce(job.scheduled_at, now())
        FROM procrastinate_limits AS defined
        WHERE job.id = ANY (returned) AND defined.name = job.limit_name AND has_rate;
    END IF;
    IF released IS NOT NULL OR left_names IS NOT NULL THEN
""".replace("has_rate", HAS_RATE),
    ),
)

JOBS_TRUNCATED = replaced(former.JOBS_TRUNCATED, ("ARRAY['openings', ", "ARRAY['starts', 'windows', 'openings', "))

# A role that claims jobs writes their history, and the starts as well.
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
        WHERE privilege.grantee <> class.relowner
            AND class.oid IN ('procrastinate_events'::regclass, 'procrastinate_workers'::regclass)
            AND privilege.privilege_type = 'INSERT'
    LOOP
        EXECUTE format('GRANT INSERT ON procrastinate_starts TO %s', granted.role);
        IF granted.relname = 'procrastinate_workers' THEN
            EXECUTE format('GRANT SELECT, DELETE ON procrastinate_starts TO %s', granted.role);
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON procrastinate_windows TO %s', granted.role);
        END IF;
    END LOOP;
END
$do$
"""

_COLUMNS = ("rates", "total_rates", "set_rates", "set_total_rates")


def upgrade() -> None:
    op.create_table(
        "procrastinate_starts",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("limit_name", sa.Text, nullable=False),
        sa.Column("limit_key", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("procrastinate_starts_key_idx", "procrastinate_starts", ["limit_name", "limit_key", "at"])
    op.create_index("procrastinate_starts_at_idx", "procrastinate_starts", ["limit_name", "at"])
    op.create_table(
        "procrastinate_windows",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("limit_name", sa.Text, nullable=False),
        sa.Column("limit_key", sa.Text, nullable=False),
        sa.Column("opens_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("limit_name", "limit_key", name="procrastinate_windows_unique"),
    )
    op.create_index("procrastinate_windows_opens_at_idx", "procrastinate_windows", ["opens_at"])
    execute_as_written(lock_tables())
    for name in _COLUMNS:
        op.add_column("procrastinate_limits", sa.Column(name, sa.Text))
    for statement in (GRANT, HAND_OVER, JOBS_UPDATED, JOBS_TRUNCATED):
        execute_as_written(statement)


# A worker written for p0014 lets all jobs run of a limit that has no number. Without a row, the limit is one that no
# worker has defined, and its jobs wait. No job is changed, so the tables are not locked for long.
FORGET_LIMITS = """
DELETE FROM procrastinate_limits AS defined
WHERE coalesce(defined.set_concurrency, defined.concurrency, defined.set_total, defined.total) IS NULL
"""


def downgrade() -> None:
    execute_as_written(lock_tables())
    execute_as_written(FORGET_LIMITS)
    for statement in (former.HAND_OVER, former.JOBS_UPDATED, former.JOBS_TRUNCATED):
        execute_as_written(replaced(statement))
    op.drop_table("procrastinate_windows")
    op.drop_table("procrastinate_starts")
    for name in _COLUMNS:
        op.drop_column("procrastinate_limits", name)
