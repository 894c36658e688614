"""How a worker says that it is alive: it registers, sends heartbeats, and unregisters when it stops.

A worker is known by its number, which is drawn at random and not taken from the sequence. A restored database or a
promoted replica gives out the numbers of its sequence a second time. Workers with the first ones may still be alive.
"""

from __future__ import annotations

import dataclasses
import secrets
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from procrastinate.core.operation_marks import plain, prepared
from procrastinate.core.pauses import Pauses, pauses_as_text, read_pauses
from procrastinate.core.rows import WorkerTerms
from procrastinate.core.tables import workers
from procrastinate.core.watchers import is_watcher
from procrastinate.core.worker_reports import (
    IDENTITY,
    REPORT,
    WorkerIdentity,
    WorkerReport,
    identity_values,
    report_values,
)

_WORKER_ID = sa.bindparam("worker", type_=sa.BigInteger())


def draw_worker_id() -> int:
    """Return a number that no other worker has had.

    It is negative, because workers of older releases take their numbers from the sequence, and those are positive. It
    has 53 bits, so programs that read JSON numbers as floats keep it exactly.
    """
    return -1 - secrets.randbits(53)


_REGISTER = sa.insert(workers).returning(workers.c.id)
_REGISTER_ON_TERMS = (
    insert(workers)
    .values({name: sa.bindparam(name) for name in ("id", "heartbeat_interval", "stalled_timeout")})
    .on_conflict_do_nothing(index_elements=["id"])
    .returning(workers.c.id)
)


_REGISTER_WITH_IDENTITY = plain(_REGISTER_ON_TERMS.values(IDENTITY))


def register_worker(
    connection: sa.Connection, terms: WorkerTerms | None = None, identity: WorkerIdentity | None = None
) -> int:
    """Add a worker, alive as of now, and return its id.

    Parameters
    ----------
    terms:
        How other workers judge this worker. Without terms, the worker gets the next number of the sequence, as with
        plain SQL. Only tests leave them out.
    identity:
        What the worker says of itself.
    """
    if terms is None:
        by_number: int = connection.execute(_REGISTER).scalar_one()
        return by_number
    worker_id: int | None = None
    while worker_id is None:
        values = dataclasses.asdict(terms) | {"id": draw_worker_id()}
        if identity is None:
            worker_id = connection.execute(_REGISTER_ON_TERMS, values).scalar_one_or_none()
        else:
            values |= identity_values(identity)
            worker_id = connection.execute(_REGISTER_WITH_IDENTITY, values).scalar_one_or_none()
    return worker_id


_UNREGISTER = plain(sa.delete(workers).where(workers.c.id == _WORKER_ID))


def unregister_worker(connection: sa.Connection, worker_id: int) -> None:
    """Remove a worker that has stopped. Jobs that it still has are orphaned from then on."""
    connection.execute(_UNREGISTER, {"worker": worker_id})


_TERMS = ("heartbeat_interval", "stalled_timeout")


def _given(term: str) -> sa.ColumnElement[float]:
    return sa.cast(sa.bindparam(term, type_=sa.Double()), sa.Double())


_HEARTBEAT = prepared(
    sa.update(workers).where(workers.c.id == _WORKER_ID).values(last_heartbeat=sa.func.now()).returning(workers.c.id)
)


_HEARTBEAT_ON_TERMS = _HEARTBEAT.values({name: sa.bindparam(name) for name in _TERMS})


def update_heartbeat(connection: sa.Connection, worker_id: int, terms: WorkerTerms | None = None) -> bool:
    """Say that a worker is alive.

    Parameters
    ----------
    terms:
        How other workers judge this worker from now on. ``None`` changes nothing.

    Returns
    -------
    False if the worker is no longer registered, because other workers took it for dead. They have its jobs now, and it
    must register again before it fetches.
    """
    values: dict[str, Any] = {"worker": worker_id}
    if terms is None:
        return connection.execute(_HEARTBEAT, values).scalar_one_or_none() is not None
    values |= dataclasses.asdict(terms)
    return connection.execute(_HEARTBEAT_ON_TERMS, values).scalar_one_or_none() is not None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HeartbeatAnswer:
    """What a worker hears with its heartbeat.

    Attributes
    ----------
    pauses:
        The pauses of queues.
    is_watcher:
        Whether it is one of the workers that look after the others.
    """

    pauses: Pauses
    is_watcher: bool


_BEAT = prepared(
    sa.update(workers)
    .where(workers.c.id == _WORKER_ID)
    .values(last_heartbeat=sa.func.now(), **REPORT)
    .values({name: sa.func.coalesce(_given(name), workers.c[name]) for name in _TERMS})
    .returning(pauses_as_text().label("pauses"), is_watcher(_given("interval")).label("is_watcher"))
)


def beat(
    connection: sa.Connection,
    worker_id: int,
    report: WorkerReport,
    terms: WorkerTerms | None = None,
    *,
    interval: float,
) -> HeartbeatAnswer | None:
    """Say that a worker is alive, and what it does.

    Parameters
    ----------
    interval:
        Seconds between two heartbeats of this worker.
    terms:
        How other workers judge this worker from now on. ``None`` changes nothing.

    Returns
    -------
    ``None`` if the worker is no longer registered. See :func:`update_heartbeat`.
    """
    values = {"worker": worker_id, "interval": interval} | report_values(report)
    row = connection.execute(_BEAT, values | dataclasses.asdict(terms or WorkerTerms())).one_or_none()
    return None if row is None else HeartbeatAnswer(pauses=read_pauses(row.pauses), is_watcher=row.is_watcher)
