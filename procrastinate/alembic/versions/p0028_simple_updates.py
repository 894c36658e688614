"""The trigger of an update does only what most jobs with a lock or a limit need.

Such a job starts, ends, or gets its lock or slot from the job before it. Each of these is an update. The trigger ran
the query with ten parts for each. A start only needs an event, an end also frees what the job held, and a job that gets
a lock or a slot only needs a notification. A second query finds out that all jobs of the statement are of one of these
kinds. Plain jobs do not meet it.

Other jobs get what they got before. A worker written for the revision before sees no difference.

Revision ID: procrastinate_0028
Revises: procrastinate_0027
"""

from __future__ import annotations

from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0027_served_queues as former

revision = "procrastinate_0028"
down_revision = "procrastinate_0027"
branch_labels = None
depends_on = None


def _all(was: str, job: str) -> str:
    """Return a condition that all jobs of the statement were in this state, and are in that one."""
    return f"""NOT EXISTS (SELECT FROM before_update AS was WHERE NOT ({was}))
            AND NOT EXISTS (SELECT FROM after_update AS job WHERE NOT ({job} AND NOT job.abort_requested))"""  # noqa: S608


# Plain SQL may change several things at once. A job that ends leaves the lock and the slot that it had, whatever it has
# now, so nothing else of it counts.
_HAS_MOVED = """EXISTS (
                SELECT FROM before_update AS was
                JOIN after_update AS job ON job.id = was.id
                WHERE (
                    was.lock, was.scheduled_at, was.limit_name, was.limit_key, greatest(was.limit_weight, 1)
                ) IS DISTINCT FROM (
                    job.lock, job.scheduled_at, job.limit_name, job.limit_key, greatest(job.limit_weight, 1)
                )
            )"""
_ARE_STARTED = _all(
    "was.status = 'todo' AND (was.limit_name IS NULL OR was.readiness = 1)",
    "job.status = 'doing' AND job.readiness IN (0, 1, 2, 5)",
)
_ARE_ENDED = _all(
    "was.status = 'doing'",
    """job.status NOT IN ('todo', 'doing', 'aborting') AND job.finished_at IS NOT NULL
                AND job.workflow_id IS NULL AND job.readiness IN (0, 1, 2, 5)""",
)
# A slot that no other job has handed on is one of an admission, and its weight is looked at.
_ARE_CHOSEN = _all(
    """was.status = 'todo' AND CASE
                WHEN was.limit_name IS NULL THEN was.readiness IN (0, 2)
                ELSE was.readiness = 3 AND was.scheduled_at IS NOT NULL AND pg_trigger_depth() > 1
            END""",
    """job.status = 'todo' AND CASE
                WHEN job.limit_name IS NULL THEN job.readiness IN (1, 2)
                ELSE job.readiness = 1
            END""",
)

JOBS_UPDATED = replaced(
    former.JOBS_UPDATED,
    ("    kind text;\n", "    kind text;\n    has_limit boolean;\n"),
    (
        "    is_restoring := procrastinate_is_restoring();\n",
        f"""    is_restoring := procrastinate_is_restoring();
    IF kind = 'other' THEN
        SELECT
            CASE
                WHEN {_ARE_ENDED}
                THEN 'ended'
                WHEN {_ARE_STARTED}
                AND NOT {_HAS_MOVED}
                THEN 'started'
                WHEN {_ARE_CHOSEN}
                AND NOT {_HAS_MOVED}
                THEN 'chosen'
                ELSE 'other'
            END,
            EXISTS (SELECT FROM after_update AS job WHERE job.limit_name IS NOT NULL)
        INTO kind, has_limit;
    END IF;
    IF kind = 'chosen' THEN
        PERFORM procrastinate_notify_waiting(job.queue_name::text, max(job.id), false, count(*))
        FROM after_update AS job
        WHERE job.readiness = 1
        GROUP BY job.queue_name;
        RETURN NULL;
    END IF;
""",  # noqa: S608
    ),
    ("    IF kind = 'plain' THEN\n", "    IF kind IN ('plain', 'started', 'ended') THEN\n"),
    (
        """            FROM after_update AS job;
        END IF;
        RETURN NULL;
    END IF;
""",
        """            FROM after_update AS job;
        END IF;
        IF kind = 'plain' OR (kind = 'started' AND NOT has_limit) THEN
            RETURN NULL;
        END IF;
    END IF;
""",
    ),
    (
        "    WITH changed AS MATERIALIZED (\n",
        """    IF kind = 'started' THEN
        has_start := true;
    ELSIF kind = 'ended' THEN
        SELECT
            array_agg(DISTINCT was.lock) FILTER (WHERE was.lock IS NOT NULL),
            array_agg(DISTINCT was.lock) FILTER (WHERE was.lock IS NOT NULL),
            array_agg(was.limit_name) FILTER (WHERE was.limit_name IS NOT NULL),
            array_agg(was.limit_key) FILTER (WHERE was.limit_name IS NOT NULL),
            array_agg(greatest(was.limit_weight, 1)) FILTER (WHERE was.limit_name IS NOT NULL),
            max(was.id),
            max(was.queue_name)
        INTO released, held, left_names, left_keys, left_weights, one_id, one_queue
        FROM before_update AS was;
    ELSE
    WITH changed AS MATERIALIZED (
""",
    ),
    ("    FROM changed;\n", "    FROM changed;\n    END IF;\n"),
)


def upgrade() -> None:
    execute_as_written(JOBS_UPDATED)


def downgrade() -> None:
    execute_as_written(replaced(former.JOBS_UPDATED))
