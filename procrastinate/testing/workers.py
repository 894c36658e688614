"""The operations on workers, in memory.

Each function is documented at the function of the same name in :mod:`procrastinate.core.heartbeats` or
:mod:`procrastinate.core.dead_workers`.
"""

from __future__ import annotations

from collections.abc import Sequence

from procrastinate import core
from procrastinate.core import HeartbeatAnswer, LateWorker, WorkerIdentity, WorkerReport, WorkerTerms
from procrastinate.core.dead_workers import EVIDENCE_HOLDS_FOR
from procrastinate.core.watchers import CLOCK_SET_BACK, LATE
from procrastinate.testing.implementations import Implementations
from procrastinate.testing.pauses import get_pauses
from procrastinate.testing.rows import DOING, matching
from procrastinate.testing.tables import Tables

IMPLEMENTED = Implementations()


@IMPLEMENTED.of(core.register_worker)
def register_worker(tables: Tables, terms: WorkerTerms | None = None, identity: WorkerIdentity | None = None) -> int:
    """Register a worker. Ids count from one: memory is never restored from a backup, so no id repeats."""
    worker_id = tables.next_worker_id()
    tables.workers[worker_id] = tables.now
    tables.worker_terms[worker_id] = terms or WorkerTerms()
    tables.worker_identities[worker_id] = None if terms is None else identity
    return worker_id


@IMPLEMENTED.of(core.unregister_worker)
def unregister_worker(tables: Tables, worker_id: int) -> None:
    tables.workers.pop(worker_id, None)


@IMPLEMENTED.of(core.update_heartbeat)
def update_heartbeat(tables: Tables, worker_id: int, terms: WorkerTerms | None = None) -> bool:
    if worker_id not in tables.workers:
        return False
    tables.workers[worker_id] = tables.now
    if terms is not None:
        tables.worker_terms[worker_id] = terms
    return True


@IMPLEMENTED.of(core.beat)
def beat(
    tables: Tables, worker_id: int, report: WorkerReport, terms: WorkerTerms | None = None, *, interval: float
) -> HeartbeatAnswer | None:
    """Beat. Each worker is a watcher: a look costs no round trip."""
    if not update_heartbeat(tables, worker_id, terms):
        return None
    return HeartbeatAnswer(pauses=get_pauses(tables), is_watcher=True)


def _age(tables: Tables, worker_id: int) -> float:
    """Return the seconds since the last heartbeat."""
    return (tables.now - tables.workers[worker_id]).total_seconds()


def is_silent(tables: Tables, worker_id: int, seconds: float) -> bool:
    """Return true if the worker has been silent for longer than ``seconds`` and longer than its own timeout."""
    own = tables.worker_terms.get(worker_id, WorkerTerms()).stalled_timeout
    return _age(tables, worker_id) > (seconds if own is None else max(own, seconds))


@IMPLEMENTED.of(core.prune_stalled_workers)
def prune_stalled_workers(
    tables: Tables, *, seconds_since_heartbeat: float, limit: int = 1000, set_aside: Sequence[int] = ()
) -> list[int]:
    silent = [one for one in sorted(tables.workers) if is_silent(tables, one, seconds_since_heartbeat)][:limit]
    for worker_id in silent:
        del tables.workers[worker_id]
    return silent


@IMPLEMENTED.of(core.list_late_workers)
def list_late_workers(
    tables: Tables, *, worker_id: int, heartbeat_interval: float, stalled_timeout: float
) -> list[LateWorker]:
    others = sorted(tables.workers.keys() - {worker_id})
    seen = [_as_seen(tables, other, heartbeat_interval, stalled_timeout) for other in others]
    return [one for one in seen if one.age > one.heartbeat_interval * LATE or one.age < CLOCK_SET_BACK]


def _as_seen(tables: Tables, worker_id: int, heartbeat_interval: float, stalled_timeout: float) -> LateWorker:
    terms = tables.worker_terms.get(worker_id, WorkerTerms())
    return LateWorker(
        id=worker_id,
        heartbeat=_heartbeat(tables, worker_id),
        age=_age(tables, worker_id),
        heartbeat_interval=heartbeat_interval if terms.heartbeat_interval is None else terms.heartbeat_interval,
        stalled_timeout=stalled_timeout if terms.stalled_timeout is None else terms.stalled_timeout,
        has_jobs=bool(tables.where(matching(status=DOING, worker_id=worker_id))),
        seen_at=tables.now.timestamp(),
    )


def _heartbeat(tables: Tables, worker_id: int) -> str:
    return tables.workers[worker_id].isoformat()


@IMPLEMENTED.of(core.remove_dead_workers)
def remove_dead_workers(tables: Tables, dead: Sequence[LateWorker]) -> list[int]:
    removed = [
        one.id
        for one in dead
        if one.id in tables.workers
        and _heartbeat(tables, one.id) == one.heartbeat
        and tables.now.timestamp() - one.seen_at < EVIDENCE_HOLDS_FOR
    ]
    for worker_id in removed:
        del tables.workers[worker_id]
    return removed
