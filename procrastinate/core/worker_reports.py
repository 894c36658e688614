"""What a worker says of itself: what it is, at its registration, and what it does, with each heartbeat."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from procrastinate.core.arrays import array_param, write_array
from procrastinate.core.tables import workers

RUNNING_IDS = 1000
"""Maximum number of running jobs that a worker names."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WorkerIdentity:
    """What a worker is.

    ``queues`` is ``None`` for all queues. ``task_list`` is the key of its tasks in ``procrastinate_task_lists``.
    ``uptime`` is the time since its start, in seconds.
    """

    name: str
    hostname: str
    pid: int
    version: str
    queues: tuple[str, ...] | None
    concurrency: int
    listens: bool
    task_list: str | None = None
    uptime: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WorkerReport:
    """What a worker does. Ages are in seconds, and ``None`` if the event never happened.

    ``loop_age`` is the time since the event loop was last seen to turn, ``fetch_age`` the time since the last fetch
    that did not fail, and ``error_code`` the SQLSTATE or the class of the last error of a fetch. ``paused_queues`` are
    the pauses of which the worker knows.
    """

    state: str = "running"
    running: int = 0
    running_ids: tuple[int, ...] = ()
    fetched_ahead: int = 0
    lost_threads: int = 0
    unwritten: int = 0
    loop_age: float | None = None
    fetch_age: float | None = None
    error_code: str | None = None
    error_age: float | None = None
    paused_queues: tuple[str, ...] = ()


def ago(age: sa.ColumnElement[float]) -> sa.ColumnElement[Any]:
    """Return the time that was `age` seconds ago."""
    zero: sa.ColumnElement[int] = sa.literal_column("0")
    return sa.func.now() - sa.func.make_interval(zero, zero, zero, zero, zero, zero, age)


def _age(name: str) -> sa.ColumnElement[Any]:
    return ago(sa.cast(sa.bindparam(name, type_=sa.Double()), sa.Double()))


def _plain(name: str, column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    return sa.cast(sa.bindparam(name, type_=column.type), column.type)


_ARRAYS = ("queues", "running_ids", "paused_queues")
_AGES = {
    "uptime": workers.c.started_at,
    "loop_age": workers.c.loop_beat_at,
    "fetch_age": workers.c.last_fetch_at,
    "error_age": workers.c.last_error_at,
}
_NAMES = {"error_code": workers.c.last_error_code}


def _columns(record: type) -> dict[str, sa.ColumnElement[Any]]:
    """Return the values of the columns, with a bound parameter for each field of the record."""
    values: dict[str, sa.ColumnElement[Any]] = {}
    for field in dataclasses.fields(record):
        name = field.name
        if name in _AGES:
            values[_AGES[name].name] = _age(name)
        elif name in _ARRAYS:
            array_type = workers.c[name].type
            assert isinstance(array_type, ARRAY)
            values[name] = array_param(name, array_type.item_type)
        else:
            column = _NAMES.get(name, workers.c.get(name))
            assert column is not None
            values[column.name] = _plain(name, column)
    return values


IDENTITY = _columns(WorkerIdentity)
"""Values of the columns that an identity fills, with the parameters of :func:`identity_values`."""
REPORT = _columns(WorkerReport)
"""Values of the columns that a report fills, with the parameters of :func:`report_values`."""


def identity_values(identity: WorkerIdentity) -> dict[str, Any]:
    """Return the parameters of :data:`IDENTITY`."""
    return _values(identity) | {"queues": write_array(identity.queues or (), sa.Text())}


def report_values(report: WorkerReport) -> dict[str, Any]:
    """Return the parameters of :data:`REPORT`."""
    return _values(report) | {
        "running_ids": write_array(report.running_ids[:RUNNING_IDS], sa.BigInteger()),
        "paused_queues": write_array(report.paused_queues, sa.Text()),
    }


def _values(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
