"""The trigger of an update finds out by one query whether all jobs are plain, and only writes the events of these.

A plain job has no lock and no limit, and is no step of a workflow that ends. Its start and its end need an event each.
The former trigger ran three queries for that, one with ten parts. That was more than half of the server's processor
time for the start and for the end of a single job.

Other jobs get what they got before. A worker written for p0021 sees no difference.

Revision ID: procrastinate_0022
Revises: procrastinate_0021
"""

from __future__ import annotations

from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0020_weights as former

revision = "procrastinate_0022"
down_revision = "procrastinate_0021"
branch_labels = None
depends_on = None

_NEEDS_NO_MORE = """job.lock IS NULL AND job.limit_name IS NULL AND job.readiness IN (0, 1, 2, 5)
                    AND NOT job.abort_requested"""
_HELD_NOTHING = "was.lock IS NULL AND was.limit_name IS NULL"


def _all(was: str, job: str) -> str:
    """Return a condition that all jobs of the statement were plain in this state and are in that one. It reads no
    further than the first job that is different.
    """
    return f"""
            NOT EXISTS (
                SELECT FROM before_update AS was
                WHERE NOT ({was} AND {_HELD_NOTHING})
            )
            AND NOT EXISTS (
                SELECT FROM after_update AS job
                WHERE NOT (
                    {job}
                    AND {_NEEDS_NO_MORE}
                )
            )"""  # noqa: S608


_ARE_STARTED = _all("was.status = 'todo'", "job.status = 'doing'")
_ARE_ENDED = _all(
    "was.status = 'doing'",
    """job.status NOT IN ('todo', 'doing', 'aborting') AND job.finished_at IS NOT NULL
                    AND job.workflow_id IS NULL""",
)

# The end of a step is an arrival, and the end of a job without finished_at, which plain SQL may write, sets that.
JOBS_UPDATED = replaced(
    former.JOBS_UPDATED,
    ("    is_restoring boolean;\n", "    is_restoring boolean;\n    kind text;\n"),
    (
        """    IF NOT EXISTS (SELECT FROM after_update) THEN
        RETURN NULL;
    END IF;
""",
        f"""    SELECT CASE
        WHEN NOT EXISTS (SELECT FROM after_update)
        THEN 'none'
        WHEN {_ARE_STARTED.strip()}
        THEN 'plain'
        WHEN {_ARE_ENDED.strip()}
        THEN 'plain'
        ELSE 'other'
    END
    INTO kind;
    IF kind = 'none' THEN
        RETURN NULL;
    END IF;
""",  # noqa: S608
    ),
    (
        "    is_restoring := procrastinate_is_restoring();\n",
        """    is_restoring := procrastinate_is_restoring();
    IF kind = 'plain' THEN
        IF NOT is_restoring THEN
            INSERT INTO procrastinate_events (job_id, type, at)
            SELECT
                job.id,
                CASE job.status WHEN 'doing' THEN 'started' ELSE job.status::text END::procrastinate_job_event_type,
                now()
            FROM after_update AS job;
        END IF;
        RETURN NULL;
    END IF;
""",
    ),
)


def upgrade() -> None:
    execute_as_written(JOBS_UPDATED)


def downgrade() -> None:
    execute_as_written(replaced(former.JOBS_UPDATED))
