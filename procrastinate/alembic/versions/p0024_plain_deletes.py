"""The trigger of a deletion asks once what the jobs need, and the trigger of an insert gathers no ids of odd jobs.

A plain job has no lock and no limit, and is no member of a workflow. Its deletion took one query with seven aggregates
and one that looked for members. Its insert took two aggregates for jobs that only plain SQL writes. Both triggers now
ask by a truth value whether there is any such job.

Other jobs get what they got before. A worker written for p0023 sees no difference.

Revision ID: procrastinate_0024
Revises: procrastinate_0023
"""

from __future__ import annotations

import textwrap

from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0020_weights as twentieth
from procrastinate.alembic.versions import p0021_one_look_at_inserts as former

revision = "procrastinate_0024"
down_revision = "procrastinate_0023"
branch_labels = None
depends_on = None

_IS_UNDATED = "job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting')"
_IS_STRAY = """job.readiness NOT IN (5, 0, 1, 2, CASE WHEN job.limit_name IS NULL THEN 0 ELSE 3 END)
                OR (job.limit_name IS NOT NULL AND job.scheduled_at IS NULL AND job.status = 'todo')"""

JOBS_INSERTED = replaced(
    former.JOBS_INSERTED,
    ("    is_new boolean;\n", "    is_new boolean;\n    is_odd boolean;\n"),
    (
        f"""        array_agg(job.id) FILTER (WHERE {_IS_UNDATED}),
        array_agg(job.id) FILTER (
            WHERE {_IS_STRAY}
        )
    INTO
        number, last_id, first_queue, last_queue, is_upcoming, all_wait, has_schedule, has_line, undated, stray
""",
        f"""        bool_or(
            {_IS_UNDATED}
            OR {_IS_STRAY}
        )
    INTO
        number, last_id, first_queue, last_queue, is_upcoming, all_wait, has_schedule, has_line, is_odd
""",
    ),
    (
        "    IF stray IS NOT NULL THEN\n",
        f"""    IF is_odd THEN
        SELECT
            array_agg(job.id) FILTER (WHERE {_IS_UNDATED}),
            array_agg(job.id) FILTER (
                WHERE {_IS_STRAY}
            )
        INTO undated, stray
        FROM inserted AS job;
    END IF;
    IF stray IS NOT NULL THEN
""",  # noqa: S608
    ),
)

_LOOK = """    SELECT
        array_agg(DISTINCT was.lock) FILTER (WHERE was.lock IS NOT NULL),
        array_agg(DISTINCT was.lock) FILTER (WHERE was.lock IS NOT NULL AND own.is_holder),
        array_agg(was.limit_name) FILTER (WHERE was.limit_name IS NOT NULL AND own.is_holder),
        array_agg(was.limit_key) FILTER (WHERE was.limit_name IS NOT NULL AND own.is_holder),
        array_agg(coalesce(was.limit_weight, 1)) FILTER (WHERE was.limit_name IS NOT NULL AND own.is_holder),
        max(was.id),
        max(was.queue_name)
    INTO released, held, left_names, left_keys, left_weights, one_id, one_queue
    FROM deleted AS was
    CROSS JOIN LATERAL (
        SELECT was.status = 'doing' OR (was.status = 'todo' AND was.readiness = 1) AS is_holder
    ) AS own
    WHERE was.status = 'doing' OR (was.status = 'todo' AND was.readiness <> 2);
    IF released IS NOT NULL OR left_names IS NOT NULL THEN
        PERFORM procrastinate_leave(one_queue, one_id, released, held, left_names, left_keys, left_weights);
    END IF;
"""

JOBS_DELETED = replaced(
    twentieth.JOBS_DELETED,
    ("    one_queue text;\n", "    one_queue text;\n    may_hold boolean;\n    has_member boolean;\n"),
    (
        _LOOK,
        """    SELECT
        bool_or((was.lock IS NOT NULL OR was.limit_name IS NOT NULL) AND was.status IN ('todo', 'doing')),
        bool_or(was.workflow_id IS NOT NULL)
    INTO may_hold, has_member
    FROM deleted AS was;
    IF may_hold THEN
"""
        + textwrap.indent(_LOOK, "    ")
        + "    END IF;\n",
    ),
    ("    IF EXISTS (SELECT FROM deleted WHERE workflow_id IS NOT NULL) THEN\n", "    IF has_member THEN\n"),
)


def upgrade() -> None:
    for statement in (JOBS_INSERTED, JOBS_DELETED):
        execute_as_written(statement)


def downgrade() -> None:
    for statement in (former.JOBS_INSERTED, twentieth.JOBS_DELETED):
        execute_as_written(replaced(statement))
