"""Store a run's return value and error and announce its end, in the statement that records the run.

A run without any of these takes a simpler statement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from procrastinate.core.channels import FINISHED_CHANNEL, LARGEST_ANNOUNCEMENT
from procrastinate.core.rows import FinishedJob, JobRetry, NewError
from procrastinate.core.session_settings import may_notify
from procrastinate.core.tables import errors, results

Recorded = TypeVar("Recorded", FinishedJob, JobRetry)

_LARGEST_STATEMENT = 8_000_000
"""Characters of results and errors in one statement with several jobs. A single job may exceed it."""

ERROR_COLUMNS: Mapping[str, TypeEngine[Any]] = {
    "exception_class": sa.Text(),
    "message": sa.Text(),
    "traceback": sa.Text(),
}
DETAIL_COLUMNS: Mapping[str, TypeEngine[Any]] = {"result": sa.Text(), "announce": sa.Boolean(), **ERROR_COLUMNS}
"""Name and type of a job's details, for :func:`~procrastinate.core.arrays.unnest`."""


def has_details(job: FinishedJob) -> bool:
    """Return True if this run has a result or an error to store, or an end to announce. A deleted job has none."""
    return not job.delete and (job.result is not None or job.error is not None or job.announce)


def detail_parameters(batch: Sequence[FinishedJob]) -> dict[str, Any]:
    """Return the parameters for :data:`DETAIL_COLUMNS`."""
    return {
        "result_list": [job.result for job in batch],
        "announce_list": [job.announce for job in batch],
        **error_parameters(batch),
    }


def error_parameters(batch: Sequence[FinishedJob] | Sequence[JobRetry]) -> dict[str, Any]:
    """Return the parameters for :data:`ERROR_COLUMNS`."""
    return {f"{name}_list": [_part(job.error, name) for job in batch] for name in ERROR_COLUMNS}


def _part(error: NewError | None, name: str) -> str | None:
    return None if error is None else getattr(error, name)


def in_statements(batch: Sequence[Recorded]) -> Iterator[list[Recorded]]:
    """Split the batch into parts that fit one statement."""
    part: list[Recorded] = []
    size = 0
    for job in batch:
        if part and size + _size(job) > _LARGEST_STATEMENT:
            yield part
            part, size = [], 0
        part.append(job)
        size += _size(job)
    if part:
        yield part


def _size(job: FinishedJob | JobRetry) -> int:
    texts = [job.result or ""] if isinstance(job, FinishedJob) else []
    if job.error is not None:
        texts += [job.error.message, job.error.traceback]
    return sum(map(len, texts))


def keep_result(recorded: sa.CTE) -> sa.CTE:
    """Store the return values of the recorded jobs, and of no job that the fence rejected."""
    insert = postgresql.insert(results).from_select(
        ["job_id", "value"],
        sa.select(recorded.c.id, sa.cast(recorded.c.result, postgresql.JSONB)).where(recorded.c.result.is_not(None)),
    )
    return insert.on_conflict_do_update(index_elements=["job_id"], set_={"value": insert.excluded.value}).cte("kept")


def keep_error(recorded: sa.CTE, worker_id: sa.ColumnElement[int]) -> sa.CTE:
    """Store the errors of the recorded jobs."""
    columns = ["job_id", "attempt", "worker_id", *ERROR_COLUMNS]
    raised = sa.select(
        recorded.c.id, recorded.c.attempts, worker_id, *(recorded.c[name] for name in ERROR_COLUMNS)
    ).where(recorded.c.exception_class.is_not(None))
    return sa.insert(errors).from_select(columns, raised).cte("raised")


def announced(recorded: sa.CTE) -> sa.ColumnElement[int]:
    """Announce the recorded jobs to waiting processes, a few hundred per message, and count the messages."""
    numbered = (
        sa.select(recorded.c.id, (sa.func.row_number().over() / LARGEST_ANNOUNCEMENT).label("message"))
        .where(recorded.c.announce, may_notify())
        .subquery("numbered")
    )
    payload = sa.func.json_build_object(
        sa.literal_column("'type'"),
        sa.literal_column("'jobs_finished'"),
        sa.literal_column("'job_ids'"),
        sa.func.json_agg(numbered.c.id),
    )
    told = (
        sa.select(sa.func.pg_notify(sa.literal_column(f"'{FINISHED_CHANNEL}'"), sa.cast(payload, sa.Text)))
        .group_by(numbered.c.message)
        .subquery("told")
    )
    return sa.select(sa.func.count()).select_from(told).scalar_subquery()
