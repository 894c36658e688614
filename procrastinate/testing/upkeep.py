"""The operations around the jobs, in memory: rescue, sweep, lists, retention, health, schema.

Each function is documented at the function of the same name in :mod:`procrastinate.core` and
:mod:`procrastinate.alembic.upgrades`.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Literal

from procrastinate import core, exceptions
from procrastinate.alembic import adoption, revisions, upgrades
from procrastinate.alembic.adoption.adopt import Report, report_to_log
from procrastinate.alembic.build_ahead import build_ahead, drop_what_came_late
from procrastinate.alembic.settings import let_fetches_of_3x_go_on
from procrastinate.core import (
    Deletion,
    DeletionPlace,
    EventType,
    JobCounts,
    JobFilter,
    NewError,
    Readiness,
    RescuedJob,
    Status,
    StoredJob,
    Sweep,
    Waiting,
)
from procrastinate.core.dead_workers import LEFT_BEHIND
from procrastinate.testing.implementations import Implementations
from procrastinate.testing.pauses import get_pauses, is_resumed
from procrastinate.testing.queue import back_to_wait, one_more, stored_job
from procrastinate.testing.rows import DOING, LONG_AGO, NOT_ENDED, TODO, JobRow, due_at, matching
from procrastinate.testing.tables import Tables
from procrastinate.testing.workers import is_silent

IMPLEMENTED = Implementations()

# What workers report and leave behind


@IMPLEMENTED.of(core.start_waiting)
def start_waiting(tables: Tables, *, worker_id: int, queues: Sequence[str] | None) -> bool:
    """Return True for a registered worker. In memory all workers are always notified."""
    return worker_id in tables.workers


@IMPLEMENTED.of(core.read_unaware)
def read_unaware(tables: Tables) -> Waiting:
    return Waiting(unaware_before=0, is_settled=True)


@IMPLEMENTED.of(core.stop_waiting)
def stop_waiting(tables: Tables, *, worker_id: int) -> None: ...


@IMPLEMENTED.of(core.have_ended_before)
def have_ended_before(tables: Tables, *, transaction: int) -> bool:
    return True


@IMPLEMENTED.of(core.has_work)
def has_work(tables: Tables, *, queues: Sequence[str] | None) -> bool:
    return bool(
        tables.where(lambda row: tables.is_ready(row) and (queues is None or row["queue_name"] in queues))
        or tables.where(lambda row: tables.is_upcoming(row) and due_at(row) <= tables.now)
        or tables.where(lambda row: tables.is_parked(row) or tables.is_in_line(row) or row["status"] == DOING)
        or tables.has_arrivals
    )


@IMPLEMENTED.of(core.find_unswept)
def find_unswept(tables: Tables) -> core.Unswept:
    return core.Unswept(
        lines=bool(tables.where(tables.is_in_line)),
        workflows=bool(tables.groups),
        orphaned=bool(_orphaned(tables)),
        parked=bool(tables.where(tables.is_parked)),
        resumed=bool(tables.where(lambda row: is_resumed(tables, row))),
        starts=False,
    )


@IMPLEMENTED.of(core.has_parked_jobs)
def has_parked_jobs(tables: Tables) -> bool:
    return bool(tables.where(tables.is_parked))


@IMPLEMENTED.of(core.list_waiting_queues)
def list_waiting_queues(tables: Tables, *, queues: Sequence[str]) -> list[str]:
    waiting = {row["queue_name"] for row in tables.where(lambda row: row["status"] == TODO)}
    return [name for name in queues if name in waiting]


@IMPLEMENTED.of(core.call_all_workers)
def call_all_workers(tables: Tables, *, job_id: int) -> None:
    tables.notify_waiting(tables.where(lambda row: row["id"] == job_id))


@IMPLEMENTED.of(core.list_stalled_jobs)
def list_stalled_jobs(
    tables: Tables,
    *,
    seconds_since_heartbeat: float,
    queue_name: str | None = None,
    task_name: str | None = None,
) -> list[StoredJob]:
    alive = {worker_id for worker_id in tables.workers if not is_silent(tables, worker_id, seconds_since_heartbeat)}
    running = tables.where(matching(status=DOING, queue_name=queue_name, task_name=task_name))
    return [stored_job(row) for row in running if row["worker_id"] not in alive]


@IMPLEMENTED.of(core.list_jobs_started_before)
def list_jobs_started_before(
    tables: Tables, *, seconds: float, queue_name: str | None = None, task_name: str | None = None
) -> list[StoredJob]:
    before = tables.now - datetime.timedelta(seconds=seconds)
    running = tables.where(matching(status=DOING, queue_name=queue_name, task_name=task_name))
    return [stored_job(row) for row in running if LONG_AGO < _started_at(tables, row) < before]


def _started_at(tables: Tables, row: JobRow) -> datetime.datetime:
    history = tables.events.get(row["id"], [])
    started = [event["at"] for event in history if event["type"] == EventType.STARTED.value]
    return max(started, default=LONG_AGO)


def _orphaned(tables: Tables) -> list[JobRow]:
    alive = {*tables.workers, LEFT_BEHIND}
    return tables.where(lambda row: row["status"] == DOING and row["worker_id"] not in alive)


@IMPLEMENTED.of(core.rescue_jobs)
def rescue_jobs(
    tables: Tables,
    *,
    max_rescues: int,
    limit: int = 500,
    set_aside: Sequence[int] = (),
    keep_queueing_locks: bool = True,
) -> list[RescuedJob]:
    lost = [row for row in _orphaned(tables) if row["id"] not in set_aside]
    return _take_back(tables, lost[:limit], max_rescues, "The worker that ran the job is gone", keep_queueing_locks)


@IMPLEMENTED.of(core.return_unknown_jobs)
def return_unknown_jobs(
    tables: Tables,
    *,
    worker_id: int,
    known_ids: Collection[int],
    max_rescues: int,
    limit: int = 500,
    set_aside: Sequence[int] = (),
    keep_queueing_locks: bool = True,
) -> list[RescuedJob]:
    known = {*known_ids, *set_aside}
    unknown = tables.where(
        lambda row: row["status"] == DOING and row["worker_id"] == worker_id and row["id"] not in known
    )
    why = "The answer to the fetch of the job was lost"
    return _take_back(tables, unknown[:limit], max_rescues, why, keep_queueing_locks)


def _take_back(
    tables: Tables, lost: list[JobRow], max_rescues: int, why: str, keep_queueing_locks: bool
) -> list[RescuedJob]:
    worker_ids = {row["id"]: row["worker_id"] for row in lost}
    ends = {row["id"]: _end_of_lost(tables, row, max_rescues) for row in lost}
    taken = tables.taken_queueing_locks()
    # Jobs that end come last: a waiting job needs the queueing lock first.
    in_turn = sorted(lost, key=lambda row: (ends[row["id"]] is not None, row["id"]))
    changes = {row["id"]: _rescued(tables, row, taken, ends[row["id"]]) for row in in_turn}
    if not keep_queueing_locks:
        changes = {job_id: change | {"queueing_lock": None} for job_id, change in changes.items()}
    tables.update(changes)
    path = f"{exceptions.WorkerLost.__module__}.{exceptions.WorkerLost.__qualname__}"
    error = NewError(exception_class=path, message=why, traceback=f"{path}: {why}\n")
    for job_id, worker_id in worker_ids.items():
        tables.keep_error(job_id, error, worker_id)
    return [
        RescuedJob(
            id=row["id"],
            queue_name=row["queue_name"],
            task_name=row["task_name"],
            status=Status(row["status"]),
            attempts=row["attempts"],
        )
        for row in lost
    ]


def _end_of_lost(tables: Tables, row: JobRow, max_rescues: int) -> Status | None:
    if row["abort_requested"]:
        return Status.ABORTED
    return Status.FAILED if tables.progress(row["id"]).rescues >= max_rescues else None


def _rescued(tables: Tables, row: JobRow, taken: set[str], ends_as: Status | None) -> dict[str, Any]:
    return back_to_wait(tables, row, taken, ends_as) | {"rescues": one_more(tables.progress(row["id"]).rescues)}


@IMPLEMENTED.of(core.sweep_parked_jobs)
def sweep_parked_jobs(
    tables: Tables, *, start: str | None = None, limit: int = 1000, set_aside: Sequence[int] = ()
) -> Sweep:
    parked = {row["lock"] for row in tables.where(tables.is_parked) if row["lock"] is not None}
    locks = sorted(lock for lock in parked if lock >= (start or ""))[: limit + 1]
    holders = tables.holders()
    paused = get_pauses(tables)
    heads = [tables.first_parked(lock, without=paused) for lock in locks if lock not in holders]
    orphans = [row["id"] for row in heads if row is not None and row["id"] not in set_aside]
    freed = {job_id: {"readiness": Readiness.UNDECIDED} for job_id in orphans[:limit]}
    tables.update(freed)
    return Sweep(unparked=len(freed), reached=locks[-1] if len(locks) > limit else None)


# Lists and counts


def _filtered(tables: Tables, job_filter: JobFilter) -> list[JobRow]:
    criteria = dataclasses.asdict(job_filter)
    if job_filter.status is not None:
        criteria["status"] = job_filter.status.value
    return tables.where(matching(**criteria))


@IMPLEMENTED.of(core.list_jobs)
def list_jobs(
    tables: Tables, job_filter: JobFilter, *, limit: int | None = None, after_id: int | None = None
) -> list[StoredJob]:
    found = [row for row in _filtered(tables, job_filter) if after_id is None or row["id"] > after_id]
    return [stored_job(row) for row in found[:limit]]


@IMPLEMENTED.of(core.count_by_queue)
def count_by_queue(tables: Tables, job_filter: JobFilter) -> list[JobCounts]:
    return _count_by(tables, "queue_name", job_filter)


@IMPLEMENTED.of(core.count_by_task)
def count_by_task(tables: Tables, job_filter: JobFilter) -> list[JobCounts]:
    return _count_by(tables, "task_name", job_filter)


@IMPLEMENTED.of(core.count_by_lock)
def count_by_lock(tables: Tables, job_filter: JobFilter) -> list[JobCounts]:
    return _count_by(tables, "lock", job_filter)


def _count_by(
    tables: Tables, column: Literal["queue_name", "task_name", "lock"], job_filter: JobFilter
) -> list[JobCounts]:
    statuses: dict[str, Counter[str]] = {}
    for row in _filtered(tables, job_filter):
        name = row[column]
        if name is not None:
            statuses.setdefault(name, Counter())[row["status"]] += 1
    return [_job_counts(name, statuses[name]) for name in sorted(statuses)]


def _job_counts(name: str, by_status: Counter[str]) -> JobCounts:
    return JobCounts(
        name=name,
        jobs_count=by_status.total(),
        todo=by_status["todo"],
        doing=by_status["doing"],
        succeeded=by_status["succeeded"],
        failed=by_status["failed"],
        cancelled=by_status["cancelled"],
        aborted=by_status["aborted"],
    )


# Deletion


@IMPLEMENTED.of(core.delete_everything)
def delete_everything(tables: Tables) -> None:
    tables.delete(list(tables.jobs))
    tables.events.clear()
    tables.uniques.clear()
    tables.pauses.clear()
    tables.workers.clear()
    tables.periodic_defers.clear()
    tables.tick_jobs.clear()
    tables.groups.clear()
    tables.dependencies.clear()
    tables.limits.clear()
    tables.starts.clear()
    tables.hold_offs.clear()
    tables.last_keys.clear()
    tables.has_arrivals = False


@IMPLEMENTED.of(core.delete_finished_jobs)
def delete_finished_jobs(
    tables: Tables,
    *,
    older_than: datetime.timedelta,
    statuses: Collection[Status],
    queue_name: str | None = None,
    limit: int = 1000,
) -> int:
    return delete_finished_part(
        tables, older_than=older_than, statuses=statuses, queue_name=queue_name, limit=limit
    ).count


@IMPLEMENTED.of(core.delete_finished_part)
def delete_finished_part(
    tables: Tables,
    *,
    older_than: datetime.timedelta,
    statuses: Collection[Status],
    queue_name: str | None = None,
    limit: int = 1000,
    after: DeletionPlace | None = None,
    set_aside: Sequence[int] = (),
) -> Deletion:
    """Delete from the start each time. In memory ``after`` saves no work."""
    before = tables.now - older_than
    ended = {status.value for status in statuses}.difference(NOT_ENDED)
    old = [
        row["id"]
        for row in tables.where(matching(queue_name=queue_name))
        if "workflow_id" not in row
        and row["status"] in ended
        and row["id"] not in set_aside
        and tables.ended_at(row["id"]) < before
    ][:limit]
    place: core.DeletionPlace | None = None
    if old and len(old) == limit:
        finished_at = tables.progress(old[-1]).finished_at or tables.now
        place = core.DeletionPlace(status=Status(tables.jobs[old[-1]]["status"]), finished_at=finished_at.isoformat())
    tables.delete(old)
    return core.Deletion(count=len(old), next_place=place)


# The database


@IMPLEMENTED.of(core.read_clock)
def read_clock(tables: Tables) -> float:
    return tables.now.timestamp()


@IMPLEMENTED.of(core.list_unfit_settings)
def list_unfit_settings(tables: Tables) -> list[str]:
    return []


@IMPLEMENTED.of(core.jobs_table_exists)
def jobs_table_exists(tables: Tables) -> bool:
    return tables.exist


@IMPLEMENTED.of(upgrades.upgrade_by_one)
def upgrade_by_one(tables: Tables) -> bool:
    tables.exist = True
    return False


@IMPLEMENTED.of(let_fetches_of_3x_go_on)
def let_nothing_go_on(tables: Tables) -> None:
    return None


@IMPLEMENTED.of(build_ahead)
def build_nothing_ahead(tables: Tables, revision: str = "head", report: Report = report_to_log) -> None:
    return None


@IMPLEMENTED.of(drop_what_came_late)
def drop_nothing_late(tables: Tables, report: Report = report_to_log) -> None:
    return None


@IMPLEMENTED.of(adoption.is_needed)
def is_needed(tables: Tables) -> bool:
    return False


@IMPLEMENTED.of(core.list_missing_grants)
def list_missing_grants(tables: Tables) -> list[str]:
    return []


@IMPLEMENTED.of(core.count_left_behind)
def count_left_behind(tables: Tables) -> int:
    return 0


@IMPLEMENTED.of(core.retry_left_behind)
def retry_left_behind(tables: Tables) -> int:
    return 0


@IMPLEMENTED.of(core.fail_left_behind)
def fail_left_behind(tables: Tables) -> int:
    return 0


@IMPLEMENTED.of(core.list_open_operations)
def list_open_operations(tables: Tables, *, after: int = 0) -> list[int]:
    return []  # no operation on many jobs can begin in memory


@IMPLEMENTED.of(revisions.fit_revision)
def fit_revision(tables: Tables) -> str | None:
    if not tables.exist:
        raise exceptions.SchemaNotApplied
    return revisions.head_revision()
