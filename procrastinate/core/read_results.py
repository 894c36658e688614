"""Operations that read a job's return value, errors and progress."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from procrastinate.core.arguments import readable_result
from procrastinate.core.enums import EventType, event_type_of
from procrastinate.core.fetch import STORED_COLUMNS, from_microseconds, microseconds
from procrastinate.core.rows import JobError, Progress, StoredEvent, StoredJob, StoredResult
from procrastinate.core.tables import HAS_KNOWN_STATUS, errors, event_literal, events, jobs, results

_JOB_ID = sa.bindparam("job_id", type_=sa.BigInteger())
_AT = microseconds(events.c.at)


def _rows(
    table: sa.Table, *columns: sa.ColumnElement[Any], only: sa.ColumnElement[bool] | None = None
) -> sa.ColumnElement[Any]:
    """Return a job's rows, oldest first, as the text of a JSON array of arrays."""
    row = sa.func.json_build_array(*columns)
    listed = sa.func.json_agg(aggregate_order_by(row, table.c.id))
    chosen = sa.select(sa.cast(listed, sa.Text)).where(table.c.job_id == _JOB_ID)
    return (chosen if only is None else chosen.where(only)).scalar_subquery()


def _errors(only: sa.ColumnElement[bool] | None = None) -> sa.ColumnElement[Any]:
    return _rows(
        errors,
        errors.c.attempt,
        errors.c.worker_id,
        microseconds(errors.c.at),
        errors.c.exception_class,
        errors.c.message,
        errors.c.traceback,
        only=only,
    )


def _first_and_last_events() -> sa.ColumnElement[Any]:
    """Return the defer, the first start and the last start, in the form of :func:`_rows`."""
    deferred, started = event_literal(EventType.DEFERRED), event_literal(EventType.STARTED)
    moments = ((deferred, sa.func.min(_AT)), (started, sa.func.min(_AT)), (started, sa.func.max(_AT)))
    rows = (sa.func.json_build_array(one, moment.filter(events.c.type == one)) for one, moment in moments)
    listed = sa.cast(sa.func.json_build_array(*rows), sa.Text)
    return sa.select(listed).where(events.c.job_id == _JOB_ID).scalar_subquery()


@functools.lru_cache(maxsize=8)
def _get_result(newest_errors: int | None) -> sa.Select[Any]:
    """Return the statement. With a bound, a job that was retried a thousand times costs no more than another."""
    read: dict[str, sa.ColumnElement[Any]] = {"errors": _errors(), "events": _rows(events, events.c.type, _AT)}
    if newest_errors is not None:
        is_new = errors.c.attempt > jobs.c.attempts - newest_errors  # an order by id would use the index of all ids
        read = {"errors": _errors(is_new) if newest_errors else sa.null(), "events": _first_and_last_events()}
    return sa.select(
        *STORED_COLUMNS,
        microseconds(jobs.c.finished_at).label("finished_at"),
        sa.select(readable_result(results.c.value)).where(results.c.job_id == _JOB_ID).scalar_subquery().label("value"),
        *(column.label(name) for name, column in read.items()),
    ).where(jobs.c.id == _JOB_ID, HAS_KNOWN_STATUS)


def get_result(connection: sa.Connection, job_id: int, *, newest_errors: int | None = None) -> StoredResult | None:
    """Return the stored data of a job in one statement, or ``None`` if the job does not exist.

    Parameters
    ----------
    newest_errors:
        Read the errors of that many attempts and, of the events, the defer, the first and the last start. With 0 the
        table of errors is not read. ``None`` reads all errors and all events.
    """
    row = connection.execute(_get_result(newest_errors), {"job_id": job_id}).one_or_none()
    if row is None:
        return None
    names = {field.name for field in dataclasses.fields(StoredJob)}.intersection(row._fields)
    values = {name: row._mapping[name] for name in names}
    return StoredResult(
        job=StoredJob(**{**values, "scheduled_at": from_microseconds(row.scheduled_at)}),
        finished_at=from_microseconds(row.finished_at),
        value=row.value,
        errors=tuple(_job_error(*error) for error in json.loads(row.errors or "[]")),
        events=tuple(_events(json.loads(row.events or "[]"))),
    )


def _job_error(
    attempt: int, worker_id: int | None, at: int | None, exception_class: str, message: str, traceback: str
) -> JobError:
    return JobError(
        attempt=attempt,
        worker_id=worker_id,
        at=from_microseconds(at),
        exception_class=exception_class,
        message=message,
        traceback=traceback,
    )


def _events(stored: list[tuple[str | None, int | None]]) -> Iterator[StoredEvent]:
    for type_, at in stored:
        known = event_type_of(type_)
        if known is not None:
            yield StoredEvent(type=known, at=from_microseconds(at))


class _TransactionNumber(sa.types.UserDefinedType[Any]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


# A visible row whose writing transaction is in progress comes from this very transaction. Savepoints have their own
# numbers, greater than the transaction's. So have other transactions that committed since.
_OWN = sa.cast(sa.cast(sa.func.pg_current_xact_id_if_assigned(), sa.Text), sa.BigInteger)
_AGE = sa.func.age(sa.literal_column(f"{jobs.name}.xmin"), type_=sa.Integer)
_WRITER = sa.cast(sa.cast(_OWN - _AGE, sa.Text), _TransactionNumber())
_IS_UNCOMMITTED = sa.case(
    (
        sa.and_(_OWN.is_not(None), _AGE.between(-1_000_000, 0)),
        sa.func.pg_xact_status(_WRITER) == sa.literal_column("'in progress'"),
    ),
    else_=sa.false(),
)
_GET_PROGRESS = sa.select(jobs.c.status, _IS_UNCOMMITTED.label("is_uncommitted")).where(
    jobs.c.id == _JOB_ID, HAS_KNOWN_STATUS
)


def get_progress(connection: sa.Connection, job_id: int) -> Progress | None:
    """Return the progress of a job, or ``None`` if no such job is visible."""
    row = connection.execute(_GET_PROGRESS, {"job_id": job_id}).one_or_none()
    return None if row is None else Progress(status=row.status, is_uncommitted=row.is_uncommitted)
