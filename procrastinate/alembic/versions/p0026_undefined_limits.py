"""Triggers give no slot that its limit does not have.

A limit has no row, or no numbers, until a worker defines it, for example after a TRUNCATE of the limits. A job that
left such a limit handed its slot to the next job in line, as if the limit had room for all. No rate counted the start
of that job. Now its jobs wait, and the starts of those that have slots count.

Plain SQL may change the limit, the key or the weight of a job that has a slot. The trigger sends a promoted job back to
the line, and handed on a slot of the new key, which the job never had. An admission at the same time gave the same slot
away. Now a transaction that moves a job in such a way hands on no more slots. An admission gives them away.

A job that needs several slots may get the last of them from a job that ends, while others are free. They went to the
jobs behind it with the next sweep. Now they are an opening.

A TRUNCATE of the jobs keeps the starts that rates count, and the hold-offs. Both are about calls that were made,
whatever becomes of the jobs.

An error while a slot is handed on leaves the slot to an admission, as before. Now it is also a warning in the server's
log, unless a trigger or a constraint of the user has refused the job.

Jobs without a limit get what they got before. A worker written for p0025 sees no difference.

Revision ID: procrastinate_0026
Revises: procrastinate_0025
"""

from __future__ import annotations

from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0015_rates as fifteenth
from procrastinate.alembic.versions import p0019_hold_offs as nineteenth
from procrastinate.alembic.versions import p0020_weights as twentieth
from procrastinate.alembic.versions import p0024_plain_deletes as twenty_fourth
from procrastinate.alembic.versions import p0025_weights_of_one as former

revision = "procrastinate_0026"
down_revision = "procrastinate_0025"
branch_labels = None
depends_on = None

# A trigger or a constraint of the user refuses to change a job, and an admission reports that. Other sessions that end
# jobs at the same time may meet. All other errors are in the server's log.
_REFUSALS = "'P0001', '40001', '40P01', '55P03'"

# Until the transaction ends, no other session sees that a job has another slot than before.
_KEEP_SLOTS = "set_config('procrastinate.hand_over_slots', 'off', true)"

LEAVE = replaced(
    twentieth.LEAVE,
    (
        "procrastinate_hand_over(queue_name, job_id, limit_names, limit_keys, limit_weights, may_be_paused)",
        """procrastinate_hand_over(
                queue_name, job_id, limit_names, limit_keys, limit_weights,
                may_be_paused OR current_setting('procrastinate.hand_over_slots', true) IS NOT DISTINCT FROM 'off'
            )""",
    ),
    (
        """            PERFORM procrastinate_notify_waiting(queue_name, job_id, true, 1);
        END;
""",
        f"""            PERFORM procrastinate_notify_waiting(queue_name, job_id, true, 1);
            IF SQLSTATE NOT IN ({_REFUSALS}) AND left(SQLSTATE, 2) <> '23' THEN
                RAISE WARNING 'No slot was handed on, so an admission gives it away: %', SQLERRM
                    USING ERRCODE = SQLSTATE;
            END IF;
        END;
""",
    ),
)

_HAS_SLOT = "(job.status = 'doing' OR (job.status = 'todo' AND job.readiness = 1))"
_SLOTS = "(job.limit_name, job.limit_key, greatest(job.limit_weight, 1))"


def _before(text: str) -> str:
    """Return a condition on a job as it was before the statement."""
    return text.replace("job.", "was.")


# A limit may have a rate if it has one, or if it is not defined.
_MAY_HAVE_RATE = f"""NOT EXISTS (
                SELECT FROM procrastinate_limits AS defined
                WHERE defined.name = job.limit_name
                    AND NOT ({fifteenth.HAS_RATE})
                    AND coalesce(
                        defined.set_concurrency, defined.concurrency, defined.set_total, defined.total,
                        defined.fair::integer
                    ) IS NOT NULL
            )"""

# Without a number of its own, the limit has one of another kind, or none at all.
#
# More slots may be free than have become free, because a job that needs many of them waited at the head of the line. If
# this job gets them at last, the others are an opening for the jobs behind it.
HAND_OVER = replaced(
    former.HAND_OVER,
    (
        "            first.weight AS first_weight\n",
        "            own.number - taken.number AS left_over,\n            first.weight AS first_weight\n",
    ),
    ("        WHERE room.number > (\n", "        WHERE greatest(room.number, room.left_over) > (\n"),
    (
        "WHEN total.number IS NULL AND NOT may_be_paused\n",
        "WHEN total.number IS NULL AND own.number IS NOT NULL AND NOT may_be_paused\n",
    ),
)

# A job has got its slot when the limit was defined, so the limit may have had a rate that must count the start.
#
# A job that has a slot now must have had it before, or have got it from an admission or another job. A job whose weight
# has changed leaves the slots that it had.
JOBS_UPDATED = replaced(
    former.JOBS_UPDATED,
    ("    has_start boolean;\n", "    has_start boolean;\n    is_moving boolean;\n"),
    (
        "AND (job.limit_name, job.limit_key) IS NOT DISTINCT FROM (was.limit_name, was.limit_key)\n",
        f"""AND {_SLOTS}
                        IS NOT DISTINCT FROM {_before(_SLOTS)}
""",
    ),
    (
        "            was.limit_weight AS was_limit_weight,\n",
        f"""            was.limit_weight AS was_limit_weight,
            job.limit_name IS NOT NULL AND {_HAS_SLOT}
                AND CASE
                    WHEN {_before(_HAS_SLOT)}
                    THEN {_SLOTS}
                        IS DISTINCT FROM {_before(_SLOTS)}
                    ELSE job.status = 'doing'
                END AS is_moved_to_slot,
""",
    ),
    (
        """                AND (job.scheduled_at, job.lock, job.limit_name, job.limit_key)
                    IS DISTINCT FROM (was.scheduled_at, was.lock, was.limit_name, was.limit_key) AS is_stale""",
        """                AND (
                    (job.scheduled_at, job.lock, job.limit_name, job.limit_key)
                        IS DISTINCT FROM (was.scheduled_at, was.lock, was.limit_name, was.limit_key)
                    OR (
                        job.limit_name IS NOT NULL AND job.readiness IN (1, 3)
                        AND greatest(job.limit_weight, 1) <> greatest(was.limit_weight, 1)
                    )
                ) AS is_stale""",
    ),
    (
        "            was.limit_name, was.limit_key\n        ) IS DISTINCT FROM (\n",
        "            was.limit_name, was.limit_key, was.limit_weight\n        ) IS DISTINCT FROM (\n",
    ),
    (
        "            job.limit_name, job.limit_key\n        )\n    ),\n",
        "            job.limit_name, job.limit_key, job.limit_weight\n        )\n    ),\n",
    ),
    ("        bool_or(is_start),\n", "        bool_or(is_start),\n        bool_or(is_moved_to_slot),\n"),
    ("has_line, has_start, returned", "has_line, has_start, is_moving, returned"),
    (
        "    -- Plain SQL that ends a job need not",
        f"""    IF is_moving THEN
        PERFORM {_KEEP_SLOTS};
    END IF;
    -- Plain SQL that ends a job need not""",
    ),
    (
        f"""        JOIN procrastinate_limits AS defined ON defined.name = job.limit_name
        WHERE (was.status, job.status) = ('todo', 'doing') AND {fifteenth.HAS_RATE};
""",
        f"""        WHERE job.limit_name IS NOT NULL AND (was.status, job.status) = ('todo', 'doing')
            AND {_MAY_HAVE_RATE};
""",
    ),
    (
        f"""        FROM procrastinate_limits AS defined
        WHERE job.id = ANY (returned) AND defined.name = job.limit_name AND ({fifteenth.HAS_RATE} OR""",
        f"""        WHERE job.id = ANY (returned) AND ({_MAY_HAVE_RATE} OR""",
    ),
)

# So it is with a job that plain SQL inserts with a slot. The rows of a restore bring their slots.
JOBS_INSERTED = replaced(
    twenty_fourth.JOBS_INSERTED,
    (
        "    IF stray IS NOT NULL THEN\n",
        f"""    IF has_line AND is_new THEN
        PERFORM {_KEEP_SLOTS}
        FROM inserted AS job
        WHERE job.limit_name IS NOT NULL AND {_HAS_SLOT}
        LIMIT 1;
    END IF;
    IF stray IS NOT NULL THEN
""",
    ),
)

JOBS_TRUNCATED = replaced(nineteenth.JOBS_TRUNCATED, ("ARRAY['hold_offs', 'starts', ", "ARRAY["))

FORMER = (
    twentieth.LEAVE,
    former.HAND_OVER,
    twenty_fourth.JOBS_INSERTED,
    former.JOBS_UPDATED,
    nineteenth.JOBS_TRUNCATED,
)


def upgrade() -> None:
    for statement in (LEAVE, HAND_OVER, JOBS_INSERTED, JOBS_UPDATED, JOBS_TRUNCATED):
        execute_as_written(statement)


def downgrade() -> None:
    for statement in FORMER:
        execute_as_written(replaced(statement))
