"""The operation that records outcomes and takes the next jobs in the same round trip."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import sqlalchemy as sa

from procrastinate.core.fetch import claim, in_order
from procrastinate.core.finish import plain_ends
from procrastinate.core.rows import FinishedJob, Rank, StoredJob
from procrastinate.core.together import execute_together
from procrastinate.core.write_results import has_details


@dataclasses.dataclass(frozen=True, slots=True)
class FinishedAndFetched:
    """The ids of the jobs whose outcomes were recorded, and the jobs that were taken next, in their order."""

    recorded: set[int]
    fetched: list[StoredJob]


def can_finish_and_fetch(finished: Sequence[FinishedJob]) -> bool:
    """Return whether :func:`finish_and_fetch_jobs` takes these outcomes. They leave no details behind."""
    return not any(has_details(job) for job in finished)


def finish_and_fetch_jobs(
    connection: sa.Connection,
    finished: Sequence[FinishedJob],
    *,
    worker_id: int,
    limit: int,
    queues: Sequence[str] | None = None,
    after: Rank | None = None,
) -> FinishedAndFetched | None:
    """Record outcomes and take ready jobs, both or neither.

    See :func:`~procrastinate.core.finish.finish_jobs` and :func:`~procrastinate.core.fetch.fetch_jobs`.

    The fetch sees the jobs to which the outcomes have handed a lock or a slot. It chooses among all ready jobs, so a
    job that comes before them is taken first.

    Returns
    -------
    ``None`` if the connection cannot do both in one round trip. Nothing is recorded then.
    """
    ends = plain_ends(finished, worker_id)
    results = execute_together(connection, [*ends, claim(worker_id=worker_id, limit=limit, queues=queues, after=after)])
    if results is None:
        return None
    *recorded, fetched = results
    return FinishedAndFetched(
        recorded={job_id for result in recorded for job_id in result.scalars()}, fetched=in_order(fetched)
    )
