"""Where the actors meet, and what they may do there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FetchedJob, FinishedJob, JobRetry, Status, errors
from tests.conformance import steps
from tests.conformance.runs import Run
from tests.conformance.steps import FUTURE, HOUR, PAST
from tests.database import new_job

ALIVE, LOST, OTHER = 1, 2, 3
"""Three workers; the second is no longer registered, the third has done nothing yet."""
RUNNING, NEXT, RETURNING, STRANDED, BEHIND, FREE, FAILED, OLD, WAITING, LATER = range(1, 11)
SLOT, UNSTARTED, LINED, LOCKED, LAST, OTHERS = range(11, 17)
STARTED, CALLED, HELD_UP = range(17, 20)
HEAVY, HEAVIER, LIGHT = range(20, 23)
"""The jobs of the scene, by their ids."""


LIMIT = core.LimitDefinition(name="a", concurrency=2)
LIMITED = {"limit_name": "a", "limit_key": "k"}
RATE = core.LimitDefinition(name="r", rates=(core.RateTerms(2, 3600.0),))
RATED = {"limit_name": "r", "limit_key": "k"}
WEIGHED = core.LimitDefinition(name="w", concurrency=3)
_HEAVY = {"limit_name": "w", "limit_key": "k"}


def set_up(run: Run) -> None:
    """One job of each sort.

    RUNNING runs for ALIVE under the lock "l"; NEXT is parked behind it; LATER, of the same lock, has not been looked
    at. RETURNING runs, too, and would come back with the queueing lock "q", under which WAITING waits. STRANDED ran for
    LOST under the lock "m"; BEHIND is parked behind it. FREE is ready. FAILED, of the queueing lock "r", has failed.
    OLD has ended long ago. WAITING holds the lock "n" and has not started. The limit "a" gives two slots to a key. SLOT
    runs in one and UNSTARTED has the other. LINED, LOCKED (lock "l") and LAST are in line. OTHERS has another key.
    The rate "r" lets two jobs of a key start in an hour. STARTED has, CALLED may, and HELD_UP waits for the hour.
    The limit "w" gives three slots to a key. HEAVY runs in two. HEAVIER needs three and is in line before LIGHT.
    """
    assert [run(core.register_worker) for _ in range(3)] == [ALIVE, LOST, OTHER]
    run(core.defer_jobs, [new_job(lock="l"), new_job(lock="l")])
    assert steps.fetch_ids(run, ALIVE) == [RUNNING]
    run(core.defer_jobs, [new_job(queueing_lock="q", priority=1)])
    run(core.defer_job, new_job(lock="m", queue_name="lost"))
    assert steps.fetch_ids(run, LOST, queues=["lost"]) == [STRANDED]
    run(core.defer_job, new_job(lock="m"))
    assert steps.fetch_ids(run, ALIVE, limit=1) == [RETURNING]
    run(core.defer_jobs, [new_job(), new_job(queueing_lock="r"), new_job()])
    for job_id, status in ((FAILED, Status.FAILED), (OLD, Status.SUCCEEDED)):
        assert run(core.finish_job_by_id, job_id, status=status, delete=False)
    steps.change(run, OLD, finished_at=PAST)
    run(core.defer_job, new_job(lock="n", queueing_lock="q"))
    steps.settle(run)
    run(core.defer_job, new_job(lock="l"))
    run(core.define_limits, [LIMIT, RATE, WEIGHED])
    run(core.defer_jobs, [new_job(**LIMITED, queue_name=queue) for queue in ("slot", "default", "default")])
    run(core.defer_job, new_job(**LIMITED, lock="l"))
    run(core.defer_jobs, [new_job(**LIMITED), new_job(limit_name="a", limit_key="other")])
    run(core.defer_jobs, [new_job(**RATED, queue_name=queue) for queue in ("slot", "default", "default")])
    run(core.defer_job, new_job(**_HEAVY, limit_weight=2, queue_name="slot"))
    run(core.defer_jobs, [new_job(**_HEAVY, limit_weight=3), new_job(**_HEAVY)])
    assert run(core.admit_jobs).admitted == 6
    assert steps.fetch_ids(run, ALIVE, queues=["slot"]) == [SLOT, STARTED, HEAVY]
    run(core.unregister_worker, LOST)
    places = [steps.readiness(run, job_id) for job_id in (NEXT, BEHIND, WAITING, UNSTARTED, CALLED)]
    places += [steps.readiness(run, job_id) for job_id in (LINED, LOCKED, LAST, HELD_UP, HEAVIER, LIGHT)]
    assert places == [2, 2, 1, 1, 1, 3, 3, 3, 3, 3, 3], places


@dataclasses.dataclass(frozen=True)
class Act:
    """An operation with its arguments, and the errors that it is documented to raise."""

    name: str
    operation: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    may_raise: tuple[Callable[[BaseException], bool], ...] = ()

    def __call__(self, connection: sa.Connection) -> Any:
        return self.operation(connection, *self.args, **self.kwargs)

    def __str__(self) -> str:
        return self.name


def _act(name: str, operation: Callable[..., Any], *args: Any, may_raise: Any = (), **kwargs: Any) -> Act:
    return Act(name, operation, args, kwargs, may_raise)


_BRIEF = (errors.is_lock_timeout, errors.is_unique_violation)
_FINISH = [FinishedJob(id=job_id, attempts=0, status=Status.SUCCEEDED) for job_id in (RUNNING, RETURNING)]
_SLOT = [FinishedJob(id=SLOT, attempts=0, status=Status.SUCCEEDED)]
_HEAVY_ENDS = [FinishedJob(id=HEAVY, attempts=0, status=Status.SUCCEEDED)]
_DELETE = [job._replace(delete=True) for job in _FINISH]
_ENDED = [Status.SUCCEEDED, Status.FAILED]

ACTS = [
    _act("defer under the lock", core.defer_job, new_job(lock="l", priority=1)),
    _act("defer under the queueing lock", core.defer_job, new_job(queueing_lock="q")),
    _act("defer under a free queueing lock", core.defer_jobs_or_none, [new_job(queueing_lock="r"), new_job(lock="n")]),
    _act("defer or find", core.defer_jobs_or_skip, [new_job(queueing_lock="q"), new_job(queueing_lock="r")]),
    _act("defer or replace", core.defer_jobs_or_replace, [new_job(queueing_lock="r"), new_job(queueing_lock="q")]),
    _act("promote", core.promote_jobs, may_raise=(errors.is_unique_violation,)),
    _act("sweep", core.sweep_parked_jobs),
    _act("fetch", core.fetch_jobs, worker_id=ALIVE, limit=5),
    _act("fetch from queues, by another", core.fetch_jobs, worker_id=OTHER, limit=5, queues=["default", "other"]),
    _act("finish", core.finish_jobs, _FINISH, worker_id=ALIVE),
    _act("finish and delete", core.finish_jobs, _DELETE, worker_id=ALIVE),
    _act(
        "retry",
        core.retry_jobs,
        [JobRetry(id=job_id, attempts=0) for job_id in (RUNNING, RETURNING)],
        worker_id=ALIVE,
        may_raise=_BRIEF,
    ),
    _act(
        "give back",
        core.release_jobs,
        [FetchedJob(id=job_id, attempts=0) for job_id in (RUNNING, RETURNING)],
        worker_id=ALIVE,
        may_raise=_BRIEF,
    ),
    _act("retry a failed job by hand", core.retry_job_by_id, FAILED, lock="l"),
    _act("retry a running job by hand", core.retry_job_by_id, RUNNING),
    _act("cancel the next", core.cancel_job, NEXT),
    _act("cancel what has its lock", core.cancel_job, WAITING, delete=True),
    _act("abort", core.cancel_job, RUNNING, abort=True),
    _act("cancel or abort the free one", core.cancel_job, FREE, abort=True),
    _act("finish by hand", core.finish_job_by_id, RUNNING, status=Status.FAILED, delete=False),
    _act("rescue", core.rescue_jobs, max_rescues=3, may_raise=_BRIEF),
    _act("take stock", core.return_unknown_jobs, worker_id=ALIVE, known_ids=[], max_rescues=3, may_raise=_BRIEF),
    _act("lose the worker", core.unregister_worker, ALIVE),
    _act("defer under the limit", core.defer_job, new_job(**LIMITED, priority=1)),
    _act("admit", core.admit_jobs, may_raise=(errors.is_unique_violation,)),
    _act("finish the slot", core.finish_jobs, _SLOT, worker_id=ALIVE),
    _act("retry the slot", core.retry_jobs, [JobRetry(id=SLOT, attempts=0)], worker_id=ALIVE),
    _act("give the slot back", core.release_jobs, [FetchedJob(id=SLOT, attempts=0)], worker_id=ALIVE),
    _act("retry the start", core.retry_jobs, [JobRetry(id=STARTED, attempts=0)], worker_id=ALIVE),
    _act("give the start back", core.release_jobs, [FetchedJob(id=STARTED, attempts=0)], worker_id=ALIVE),
    _act("cancel the unstarted", core.cancel_job, UNSTARTED),
    _act("cancel the lined", core.cancel_job, LINED, delete=True),
    _act("finish the heavy one", core.finish_jobs, _HEAVY_ENDS, worker_id=ALIVE),
    _act("retry the heavy one", core.retry_jobs, [JobRetry(id=HEAVY, attempts=0)], worker_id=ALIVE),
    _act("cancel the heavier", core.cancel_job, HEAVIER),
    _act("raise the limit", core.set_limit, dataclasses.replace(LIMIT, concurrency=3)),
    _act("sweep the lines", core.sweep_lines),
    _act("reschedule", steps.write_columns, WAITING, {"scheduled_at": FUTURE}),
    _act("delete old ones", core.delete_finished_jobs, older_than=HOUR, statuses=_ENDED),
]
