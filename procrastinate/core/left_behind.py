"""Operations on running jobs that Procrastinate 3.x has left behind: count them, and decide what becomes of them.

The tables were upgraded with them in ``doing``. No worker takes them back before that is decided: some are months
old, and a job that runs after all may do harm.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from procrastinate.core.dead_workers import LEFT_BEHIND
from procrastinate.core.enums import Status
from procrastinate.core.rescue import lost_run
from procrastinate.core.tables import DOING, jobs, one_more, status_literal
from procrastinate.core.write_results import keep_error

_IS_LEFT_BEHIND = sa.and_(jobs.c.status == DOING, jobs.c.worker_id == LEFT_BEHIND)
_COUNT = sa.select(sa.func.count()).select_from(jobs).where(_IS_LEFT_BEHIND)
_RETRY = sa.update(jobs).where(_IS_LEFT_BEHIND).values(worker_id=None)


def _fail_statement() -> sa.Select[Any]:
    failed = (
        sa.update(jobs)
        .where(_IS_LEFT_BEHIND)
        .values(
            status=status_literal(Status.FAILED),
            finished_at=sa.func.now(),
            attempts=one_more(jobs.c.attempts),
            abort_requested=False,
            worker_id=None,
        )
        .returning(
            jobs.c.id,
            jobs.c.attempts,
            *lost_run("The worker that ran the job was gone when the tables were upgraded from Procrastinate 3.x"),
        )
        .cte("failed")
    )
    return sa.select(failed.c.id).add_cte(keep_error(failed, sa.cast(sa.null(), sa.BigInteger())))


_FAIL = _fail_statement()


def count_left_behind(connection: sa.Connection) -> int:
    """Count the jobs that were left behind and are not decided."""
    return connection.execute(_COUNT).scalar_one()


def retry_left_behind(connection: sa.Connection) -> int:
    """Let workers take back the jobs that were left behind, as they do with jobs of a dead worker.

    Returns
    -------
    How many there were.
    """
    return connection.execute(_RETRY).rowcount


def fail_left_behind(connection: sa.Connection) -> int:
    """End the jobs that were left behind as failed, each with an error that says so.

    Returns
    -------
    How many there were.
    """
    return len(connection.execute(_FAIL).all())
