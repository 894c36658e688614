"""The load of the workers."""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa

from procrastinate.core.defaults import STALLED_TIMEOUT
from procrastinate.core.inspection.bounds import first_rows, load, moment, to_count
from procrastinate.core.inspection.records import Workers, WorkerState
from procrastinate.core.operation_marks import may_lag
from procrastinate.core.tables import DOING, jobs, workers
from procrastinate.core.watchers import age

_SHOWN = 500
_RUNNING = 20_000
"""Maximum number of running jobs that are counted for all workers together."""


def is_alive() -> sa.ColumnElement[bool]:
    """Return the condition that a worker is not silent for longer than it said that it may be."""
    timeout = sa.func.coalesce(workers.c.stalled_timeout, sa.literal(STALLED_TIMEOUT, sa.Double()))
    return age(workers.c.last_heartbeat) <= timeout


_ALIVE_AND_SILENT = sa.select(
    sa.func.count().filter(is_alive()).label("alive"), sa.func.count().filter(~is_alive()).label("silent")
).select_from(workers)


def alive_and_silent(connection: sa.Connection) -> tuple[int, int]:
    """Return the number of workers that are alive, and of those that are silent."""
    row = connection.execute(_ALIVE_AND_SILENT).one()
    return row.alive, row.silent


_running = first_rows(
    sa.select(jobs.c.worker_id).where(jobs.c.status == DOING).order_by(jobs.c.worker_id), _RUNNING + 1, "running"
)
_BY_WORKER = (
    sa.select(_running.c.worker_id, sa.func.count().label("number")).group_by(_running.c.worker_id).cte("by_worker")
)
_WHAT_IT_IS = ("name", "hostname", "pid", "version", "queues", "concurrency", "listens", "state")
_WHAT_IT_DOES = ("running", "fetched_ahead", "lost_threads", "unwritten", "last_error_code", "heartbeat_interval")
_TIMES = ("started_at", "loop_beat_at", "last_fetch_at", "last_error_at")
_WORKERS: sa.Select[Any] = (
    sa.select(
        sa.func.coalesce(workers.c.id, _BY_WORKER.c.worker_id).label("id"),
        workers.c.id.is_not(None).label("is_registered"),
        sa.func.coalesce(is_alive(), sa.false()).label("is_alive"),
        moment(workers.c.last_heartbeat).label("last_heartbeat_at"),
        _BY_WORKER.c.number.label("holds"),
        *(workers.c[name] for name in (*_WHAT_IT_IS, *_WHAT_IT_DOES)),
        *(moment(workers.c[name]).label(name) for name in _TIMES),
    )
    .select_from(workers.join(_BY_WORKER, _BY_WORKER.c.worker_id == workers.c.id, full=True))
    .order_by(workers.c.name, workers.c.hostname, workers.c.pid, sa.literal_column("1"))
    .limit(sa.literal_column(str(_SHOWN)))
)


@may_lag
@load
def load_workers(connection: sa.Connection, now: datetime.datetime) -> Workers:
    """Return the workers with the number of their jobs, up to 500 of them."""
    rows = connection.execute(_WORKERS).all()
    return Workers(now=now, workers=tuple(_worker(row) for row in rows if row.id is not None))


def _worker(row: Any) -> WorkerState:
    values = dict(row._mapping)
    queues = values.pop("queues")
    return WorkerState(
        **values
        | {
            "holds": to_count(values["holds"], _RUNNING),
            "queues": None if queues is None else tuple(name for name in queues if name is not None),
        }
    )
