"""The operations on a job's way, in memory: defer, promote, fetch, record, control.

Each function is documented at the function of the same name in :mod:`procrastinate.core`.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from procrastinate import core, exceptions
from procrastinate.core import (
    EventType,
    FetchedJob,
    FinishedJob,
    JobRetry,
    NewJob,
    Progress,
    Promotion,
    Rank,
    Readiness,
    Status,
    StoredEvent,
    StoredJob,
    StoredResult,
    TickOutcome,
)
from procrastinate.core.defaults import KEEP_TICKS_FOR, STALLED_TIMEOUT
from procrastinate.core.defer import unique_by_queueing_lock
from procrastinate.testing.implementations import Implementations
from procrastinate.testing.jsonb import load_jsonb
from procrastinate.testing.rows import DOING, TODO, JobRow, due_at, in_order, matching
from procrastinate.testing.tables import Tables
from procrastinate.testing.workers import is_silent

IMPLEMENTED = Implementations()


def stored_job(row: JobRow) -> StoredJob:
    """Convert a row to a record."""
    columns: dict[str, Any] = {**row}
    columns |= {"args": json.dumps(row["args"], ensure_ascii=False), "status": Status(row["status"])}
    return StoredJob(**columns)


# Defer


@IMPLEMENTED.of(core.defer_job)
def defer_job(tables: Tables, job: NewJob) -> int | None:
    ids = defer_jobs(tables, [job])
    return ids[0] if ids else None


@IMPLEMENTED.of(core.defer_jobs)
def defer_jobs(tables: Tables, new_jobs: Sequence[NewJob]) -> list[int]:
    taken = tables.taken_queueing_locks()
    accepted = []
    for job in new_jobs:
        if job.queueing_lock is None:
            accepted.append(job)
        elif job.queueing_lock not in taken:
            accepted.append(job)
            taken.add(job.queueing_lock)
    return tables.insert(accepted)


@IMPLEMENTED.of(core.defer_jobs_alike)
def defer_jobs_alike(tables: Tables, pattern: NewJob, all_args: Sequence[str]) -> list[int]:
    return tables.insert([dataclasses.replace(pattern, args=args) for args in all_args])


@IMPLEMENTED.of(core.defer_jobs_or_none)
def defer_jobs_or_none(tables: Tables, new_jobs: Sequence[NewJob]) -> list[int] | None:
    wanted = [job.queueing_lock for job in new_jobs if job.queueing_lock is not None]
    if len(set(wanted)) < len(wanted) or tables.taken_queueing_locks().intersection(wanted):
        return None
    return tables.insert(new_jobs)


@IMPLEMENTED.of(core.defer_job_or_skip)
def defer_job_or_skip(tables: Tables, job: NewJob) -> int | None:
    return _defer_or_find(tables, job)


@IMPLEMENTED.of(core.defer_jobs_or_skip)
def defer_jobs_or_skip(tables: Tables, new_jobs: Sequence[NewJob]) -> list[int] | None:
    return [_defer_or_find(tables, job) for job in new_jobs]


def _defer_or_find(tables: Tables, job: NewJob) -> int:
    waiting = _waiting_under(tables, job.queueing_lock)
    return tables.insert([job])[0] if waiting is None else waiting["id"]


def _waiting_under(tables: Tables, queueing_lock: str | None) -> JobRow | None:
    if queueing_lock is None:
        return None
    return next(iter(tables.where(matching(status=TODO, queueing_lock=queueing_lock))), None)


@IMPLEMENTED.of(core.defer_jobs_or_replace)
def defer_jobs_or_replace(tables: Tables, new_jobs: Sequence[NewJob]) -> list[int]:
    last = iter(unique_by_queueing_lock(new_jobs, last=True))
    by_lock: dict[str, int] = {}
    ids = []
    for job in new_jobs:
        if job.queueing_lock is None:
            ids.append(_defer_or_replace(tables, next(last)))
            continue
        if job.queueing_lock not in by_lock:
            by_lock[job.queueing_lock] = _defer_or_replace(tables, next(last))
        ids.append(by_lock[job.queueing_lock])
    return ids


def _defer_or_replace(tables: Tables, job: NewJob) -> int:
    waiting = _waiting_under(tables, job.queueing_lock)
    if waiting is None:
        return tables.insert([job])[0]
    overwrite(tables, waiting["id"], job)
    return waiting["id"]


def overwrite(tables: Tables, job_id: int, job: NewJob, *, not_after: datetime.datetime | None = None) -> None:
    """Give a waiting job the values of another one, and a schedule that is not after a time."""
    replaced = tables.columns_of(job)
    if not_after is not None and job.scheduled_at is not None:
        replaced["scheduled_at"] = min(job.scheduled_at, not_after)
    tables.update({job_id: replaced})


@IMPLEMENTED.of(core.find_taken_queueing_lock)
def find_taken_queueing_lock(tables: Tables, queueing_locks: Sequence[str]) -> str | None:
    taken = tables.taken_queueing_locks()
    return next((lock for lock in queueing_locks if lock in taken), None)


@IMPLEMENTED.of(core.defer_tick)
def defer_tick(
    tables: Tables,
    job: NewJob,
    *,
    periodic_id: str,
    defer_timestamp: int,
    replace: bool = False,
    keep_for: float = KEEP_TICKS_FOR,
    briefly: bool = False,
    former_names: Sequence[str] = (),
) -> TickOutcome:
    ticks = begin_ticks(tables, (job.task_name, periodic_id, defer_timestamp), keep_for, former_names)
    if not ticks:
        return TickOutcome(job_id=None)
    job_id = _defer_or_replace(tables, job) if replace else defer_job(tables, job)
    for tick in ticks:
        record_tick(tables, tick, job_id)
    return TickOutcome(job_id=job_id, queueing_lock_taken=job_id is None)


@IMPLEMENTED.of(core.has_tick)
def has_tick(tables: Tables, *, task_name: str, periodic_id: str, defer_timestamp: int) -> bool:
    return (task_name, periodic_id, defer_timestamp) in tables.tick_jobs


Tick = tuple[str, str, int]
"""The name of a task, its schedule, and the time in seconds since 1970."""


def begin_tick(tables: Tables, tick: Tick, keep_for: float) -> bool:
    """Forget old ticks of the schedule. Return false if the tick was deferred or is too old."""
    defer_timestamp = tick[2]
    oldest_kept = math.ceil(tables.now.timestamp() - keep_for)
    ticks = [one for one in tables.tick_jobs if one[:2] == tick[:2]]
    is_too_old = defer_timestamp < oldest_kept and any(one[2] > defer_timestamp for one in ticks)
    if tick in tables.tick_jobs or tables.periodic_defers.get(tick[:2]) == defer_timestamp or is_too_old:
        return False
    for old in sorted(one for one in ticks if one[2] < oldest_kept)[:-1][:100]:
        del tables.tick_jobs[old]
    return True


def begin_ticks(tables: Tables, tick: Tick, keep_for: float, former_names: Sequence[str]) -> list[Tick]:
    """Return the tick, and the same tick under former names of a task that was renamed lately. Begin each of them.

    Return an empty list if one of them was deferred or is too old. The others are then recorded with its job.
    """
    former = [(name, *tick[1:]) for name in former_names if is_renamed(tables, tick, name, keep_for)]
    begun: list[Tick] = []
    for one in [*former, tick]:
        if not begin_tick(tables, one, keep_for):
            missing = [tick] if one in tables.tick_jobs and tick not in tables.tick_jobs else []
            for other in [*begun, *missing]:
                record_tick(tables, other, tables.tick_jobs.get(one))
            return []
        begun.append(one)
    return begun


def is_renamed(tables: Tables, tick: Tick, former_name: str, keep_for: float) -> bool:
    """Return true if the schedule has ticks under the former name, and has not settled under its new one."""
    oldest_kept = math.ceil(tables.now.timestamp() - keep_for)
    of_former = [one[2] for one in tables.tick_jobs if one[:2] == (former_name, tick[1])]
    of_new = {one[2] for one in tables.tick_jobs if one[:2] == tick[:2]}
    settled_at = max((timestamp for timestamp in of_new if timestamp < oldest_kept), default=None)
    if settled_at is None:
        return bool(of_former)
    return any(timestamp > settled_at and timestamp not in of_new for timestamp in of_former)


def record_tick(tables: Tables, tick: Tick, job_id: int | None) -> None:
    """Record that the tick was deferred as this job, or without one."""
    tables.tick_jobs[tick] = job_id
    tables.periodic_defers[tick[:2]] = tick[2]


# Promote and fetch


@IMPLEMENTED.of(core.promote_jobs)
def promote_jobs(
    tables: Tables,
    *,
    limit: int = 500,
    due_by: datetime.datetime | None = None,
    without_turn: bool = False,
    set_aside: Sequence[int] = (),
    paused: Sequence[str] = (),
) -> Promotion:
    """Promote due jobs. There is no other promoter in memory, so ``without_turn`` has no effect."""
    now = due_by or tables.now
    upcoming = [row for row in tables.where(tables.is_upcoming) if row["id"] not in set_aside]
    upcoming.sort(key=lambda row: (due_at(row), *in_order(row)))
    due = [row for row in upcoming if due_at(row) <= now][:limit]
    next_due = next((due_at(row) for row in upcoming if due_at(row) > now), None)
    holders = tables.holders()
    verdict: dict[int, Readiness] = {}
    held = [row for row in due if row["queue_name"] in paused]
    open_due = (row for row in due if row["queue_name"] not in paused)
    wanted_by_open = {row["lock"] for row in open_due if tables.progress(row["id"]).limit_name is None}
    for wanted in {row["lock"] for row in held if row["lock"] is not None} - holders.keys() - wanted_by_open:
        following = tables.first_parked(wanted, without=paused)
        verdict |= {} if following is None else {following["id"]: Readiness.UNDECIDED}
    verdict |= {row["id"]: Readiness.PARKED for row in held}
    limited = [row for row in due if row["id"] not in verdict and tables.progress(row["id"]).limit_name is not None]
    verdict |= {row["id"]: Readiness.IN_LINE for row in limited}
    orphans = _orphans(tables, paused, set_aside)
    for lock, line in _by_lock([row for row in due if row["id"] not in verdict]):
        if lock in orphans and lock not in holders and in_order(orphans[lock]) < in_order(line[0]):
            line = [orphans[lock], *line]
        verdict |= _decide(line, holders.get(lock) if lock is not None else None)
    tables.update({job_id: {"readiness": readiness} for job_id, readiness in verdict.items()})
    counts = Counter(verdict.values())
    settled = sum(verdict.get(row["id"], Readiness.UNDECIDED) != Readiness.UNDECIDED for row in due)
    return Promotion(
        promoted=counts[Readiness.PROMOTED],
        again=len(due) >= limit or len(due) > settled or (bool(paused) and counts[Readiness.UNDECIDED] > 0),
        next_due_in=None if next_due is None else (next_due - now).total_seconds(),
        parked=counts[Readiness.PARKED] + counts[Readiness.IN_LINE],
        undecided=len(due) - settled,
        has_arrivals=tables.has_arrivals,
        has_openings=bool(tables.where(tables.is_in_line)),
    )


def _by_lock(rows: Iterable[JobRow]) -> list[tuple[str | None, list[JobRow]]]:
    """Group the jobs by lock, in running order. A job without a lock is a group of its own."""
    locked = sorted((row for row in rows if row["lock"] is not None), key=lambda row: (row["lock"], in_order(row)))
    lines = [(lock, list(line)) for lock, line in itertools.groupby(locked, key=lambda row: row["lock"])]
    return [*((None, [row]) for row in rows if row["lock"] is None), *lines]


def _orphans(tables: Tables, without: Collection[str], set_aside: Collection[int]) -> dict[str, JobRow]:
    """Return the first parked job of each lock. A job with a limit has no slot."""

    def may_go_on(row: JobRow) -> bool:
        is_in_play = row["queue_name"] not in without and row["id"] not in set_aside
        return is_in_play and tables.is_parked(row) and tables.progress(row["id"]).limit_name is None

    parked = sorted(tables.where(may_go_on), key=in_order, reverse=True)
    return {row["lock"]: row for row in parked if row["lock"] is not None}


def _decide(line: Sequence[JobRow], holder: JobRow | None) -> dict[int, Readiness]:
    """Decide the readiness of the due jobs of one lock, and of its holder if the first due job outranks it."""
    first = line[0]
    if holder is not None and holder["status"] == TODO and in_order(first) < in_order(holder):
        return {holder["id"]: Readiness.UNDECIDED}
    readiness = {row["id"]: Readiness.PARKED for row in line}
    if holder is None:
        readiness[first["id"]] = Readiness.PROMOTED
    return readiness


@IMPLEMENTED.of(core.read_arguments)
def read_arguments(tables: Tables, job_ids: Collection[int]) -> dict[int, str | None]:
    return {job_id: stored_job(tables.jobs[job_id]).args for job_id in job_ids if job_id in tables.jobs}


@IMPLEMENTED.of(core.fetch_jobs)
def fetch_jobs(
    tables: Tables,
    *,
    worker_id: int,
    limit: int,
    queues: Sequence[str] | None = None,
    task_names: Sequence[str] | None = None,
    after: Rank | None = None,
    set_aside: Sequence[int] = (),
    paused: Sequence[str] = (),
) -> list[StoredJob]:
    if worker_id not in tables.workers:
        return []

    def is_wanted(row: JobRow) -> bool:
        return (
            row["id"] not in set_aside
            and row["queue_name"] not in paused
            and (queues is None or row["queue_name"] in queues)
            and (task_names is None or row["task_name"] in task_names)
        )

    def is_in_reach(row: JobRow) -> bool:
        if after is None or (queues is not None and len(queues) > 1):
            return True
        return row["priority"] > after.priority or (row["priority"] == after.priority and row["id"] > after.id)

    ready = tables.where(lambda row: tables.is_ready(row) and is_wanted(row) and is_in_reach(row))
    fetched = sorted(ready, key=in_order)[:limit]
    running = {"status": DOING, "worker_id": worker_id, "readiness": Readiness.UNDECIDED}
    tables.update({row["id"]: running for row in fetched})
    return [dataclasses.replace(stored_job(row), limit_name=tables.progress(row["id"]).limit_name) for row in fetched]


@IMPLEMENTED.of(core.list_deferred_after)
def list_deferred_after(tables: Tables, claims: Mapping[int, int]) -> set[int]:
    return {
        job_id
        for job_id, claimed_at in claims.items()
        for event in tables.events.get(job_id, [])
        if event["type"] == EventType.DEFERRED.value and event["at"].timestamp() * 1_000_000 > claimed_at
    }


# Record


def _held(tables: Tables, job_id: int, attempts: int, worker_id: int) -> JobRow | None:
    """Return the job if this worker still runs this attempt of it."""
    row = tables.find(job_id, DOING)
    return row if row is not None and (row["worker_id"], row["attempts"]) == (worker_id, attempts) else None


@IMPLEMENTED.of(core.finish_jobs)
def finish_jobs(tables: Tables, finished: Sequence[FinishedJob], *, worker_id: int) -> set[int]:
    held = [job for job in finished if _held(tables, job.id, job.attempts, worker_id) is not None]
    kept = [job for job in held if not job.delete]
    for status in dict.fromkeys(job.status for job in kept):  # each status is a statement, and notifies once a queue
        tables.update({job.id: _ended(tables, tables.jobs[job.id], status) for job in kept if job.status is status})
    tables.delete({job.id for job in held if job.delete})
    for job in held:
        if not job.delete:
            _keep_details(tables, job, worker_id)
    tables.announce([job.id for job in held if job.announce and not job.delete])
    return {job.id for job in held}


@IMPLEMENTED.of(core.finish_and_fetch_jobs)
def finish_and_fetch_jobs(
    tables: Tables,
    finished: Sequence[FinishedJob],
    *,
    worker_id: int,
    limit: int,
    queues: Sequence[str] | None = None,
    after: Rank | None = None,
) -> core.FinishedAndFetched:
    recorded = finish_jobs(tables, finished, worker_id=worker_id)
    return core.FinishedAndFetched(
        recorded, fetch_jobs(tables, worker_id=worker_id, limit=limit, queues=queues, after=after)
    )


def _keep_details(tables: Tables, job: FinishedJob, worker_id: int) -> None:
    if job.result is not None:
        tables.results[job.id] = job.result
    if job.error is not None:
        tables.keep_error(job.id, job.error, worker_id)


def _ended(tables: Tables, row: JobRow, status: Status) -> dict[str, Any]:
    return {
        "status": status.value,
        "attempts": _attempts_after(row),
        "abort_requested": False,
        "finished_at": tables.now,
    }


def _attempts_after(row: JobRow) -> int:
    return one_more(row["attempts"]) if row["status"] == DOING else row["attempts"]


def one_more(count: int) -> int:
    """Return a count plus one, limited to the largest value of a PostgreSQL integer."""
    return min(count, 2**31 - 2) + 1


@IMPLEMENTED.of(core.complete_job)
def complete_job(tables: Tables, finished: FinishedJob, *, worker_id: int) -> None:
    if not finish_jobs(tables, [finished], worker_id=worker_id):
        raise exceptions.JobNotHeld


@IMPLEMENTED.of(core.finish_job_by_id)
def finish_job_by_id(tables: Tables, job_id: int, *, status: Status, delete: bool) -> bool:
    row = tables.find(job_id, TODO, DOING)
    if row is None:
        return False
    if delete:
        tables.delete({job_id})
    else:
        tables.update({job_id: _ended(tables, row, status) | {"readiness": Readiness.UNDECIDED}})
    return True


def back_to_wait(tables: Tables, row: JobRow, taken: set[str], ends_as: Status | None = None) -> dict[str, Any]:
    """Return the changes to a job that leaves its worker and waits again, or ends with ``ends_as``.

    The job keeps its queueing lock if that is not in ``taken``. The function adds it to ``taken``.
    """
    queueing_lock = row["queueing_lock"]
    if queueing_lock in taken:
        queueing_lock = None
    elif queueing_lock is not None:
        taken.add(queueing_lock)
    return {
        "status": (ends_as or Status.TODO).value,
        "finished_at": None if ends_as is None else tables.now,
        "attempts": _attempts_after(row),
        "abort_requested": False,
        "worker_id": None,
        "readiness": Readiness.UNDECIDED,
        "queueing_lock": queueing_lock,
    }


def _changes(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value is not None}


@IMPLEMENTED.of(core.list_held_jobs)
def list_held_jobs(tables: Tables, fetched: Sequence[FinishedJob], *, worker_id: int) -> set[int]:
    return {job.id for job in fetched if _held(tables, job.id, job.attempts, worker_id) is not None}


@IMPLEMENTED.of(core.retry_jobs)
def retry_jobs(
    tables: Tables, retries: Sequence[JobRetry], *, worker_id: int, keep_queueing_locks: bool = True
) -> dict[int, Status]:
    held = [retry for retry in retries if _held(tables, retry.id, retry.attempts, worker_id) is not None]
    # Jobs with an abort request end and come last: a waiting job needs the queueing lock first.
    held.sort(key=lambda retry: (tables.jobs[retry.id]["abort_requested"], retry.id))
    taken = tables.taken_queueing_locks()
    changes = {retry.id: _retried(tables, retry, taken) for retry in held}
    if not keep_queueing_locks:
        changes = {job_id: change | {"queueing_lock": None} for job_id, change in changes.items()}
    tables.update(changes)
    for retry in held:
        if retry.error is not None:
            tables.keep_error(retry.id, retry.error, worker_id)
    return {retry.id: Status(tables.jobs[retry.id]["status"]) for retry in held}


def _retried(tables: Tables, retry: JobRetry, taken: set[str]) -> dict[str, Any]:
    row = tables.jobs[retry.id]
    changes = back_to_wait(tables, row, taken, Status.FAILED if row["abort_requested"] else None)
    changes["scheduled_at"] = retry.retry_at or tables.now + datetime.timedelta(seconds=retry.retry_in or 0)
    return changes | _changes(priority=retry.priority, queue_name=retry.queue_name, lock=retry.lock)


@IMPLEMENTED.of(core.release_jobs)
def release_jobs(
    tables: Tables,
    fetched: Sequence[FetchedJob],
    *,
    worker_id: int,
    delay: float | None = None,
    keep_queueing_locks: bool = True,
) -> dict[int, Status]:
    held = [job for job in fetched if _held(tables, job.id, job.attempts, worker_id) is not None]
    # Jobs with an abort request end and come last: a waiting job needs the queueing lock first.
    held.sort(key=lambda job: (tables.jobs[job.id]["abort_requested"], job.id))
    taken = tables.taken_queueing_locks()
    changes = {job.id: _released(tables, tables.jobs[job.id], taken) for job in held}
    if not keep_queueing_locks:
        changes = {job_id: change | {"queueing_lock": None} for job_id, change in changes.items()}
    if delay is not None:
        later = {"scheduled_at": tables.now + datetime.timedelta(seconds=delay), "readiness": Readiness.UNDECIDED}
        changes = {job_id: change | later for job_id, change in changes.items()}
    tables.update(changes)
    return {job.id: Status(tables.jobs[job.id]["status"]) for job in held}


def _released(tables: Tables, row: JobRow, taken: set[str]) -> dict[str, Any]:
    changes = back_to_wait(tables, row, taken, Status.ABORTED if row["abort_requested"] else None)
    del changes["attempts"]
    by_its_row = row["scheduled_at"] is None and row["lock"] is None
    if not (row["abort_requested"] or by_its_row):
        changes["readiness"] = Readiness.PROMOTED
    return changes


@IMPLEMENTED.of(core.list_unknown_jobs)
def list_unknown_jobs(tables: Tables, *, worker_id: int, known_ids: Collection[int]) -> list[FetchedJob]:
    held = tables.where(matching(status=DOING, worker_id=worker_id))
    return [FetchedJob(id=row["id"], attempts=row["attempts"]) for row in held if row["id"] not in known_ids]


@IMPLEMENTED.of(core.retry_job_by_id)
def retry_job_by_id(
    tables: Tables,
    job_id: int,
    *,
    retry_at: datetime.datetime | None = None,
    priority: int | None = None,
    queue_name: str | None = None,
    lock: str | None = None,
    spare_running: bool = False,
) -> bool:
    row = tables.find(job_id, DOING, Status.FAILED.value)
    if row is None or (spare_running and row["status"] == DOING and _has_lively_worker(tables, row)):
        return False
    changes = back_to_wait(tables, row, tables.taken_queueing_locks())
    changes |= {"scheduled_at": retry_at or tables.now, "rescues": 0}
    tables.update({job_id: changes | _changes(priority=priority, queue_name=queue_name, lock=lock)})
    return True


def _has_lively_worker(tables: Tables, row: JobRow) -> bool:
    worker_id = row["worker_id"]
    return worker_id in tables.workers and not is_silent(tables, worker_id, STALLED_TIMEOUT)


# Control


@IMPLEMENTED.of(core.get_job_status)
def get_job_status(tables: Tables, job_id: int) -> Status | None:
    row = tables.jobs.get(job_id)
    return None if row is None else Status(row["status"])


@IMPLEMENTED.of(core.cancel_job)
def cancel_job(tables: Tables, job_id: int, *, abort: bool = False, delete: bool = False) -> bool:
    if tables.find(job_id, TODO):
        if delete:
            tables.delete({job_id})
        else:
            cancelled = {"status": Status.CANCELLED.value, "finished_at": tables.now, "readiness": Readiness.UNDECIDED}
            tables.update({job_id: cancelled})
        return True
    if abort and tables.find(job_id, DOING):
        tables.update({job_id: {"abort_requested": True}})
        return True
    return False


@IMPLEMENTED.of(core.list_jobs_to_abort)
def list_jobs_to_abort(tables: Tables, *, queue_name: str | None = None, worker_id: int | None = None) -> list[int]:
    found = tables.where(matching(status=DOING, abort_requested=True, queue_name=queue_name, worker_id=worker_id))
    return [row["id"] for row in found]


@IMPLEMENTED.of(core.get_progress)
def get_progress(tables: Tables, job_id: int) -> Progress | None:
    row = tables.jobs.get(job_id)
    return None if row is None else Progress(status=Status(row["status"]), is_uncommitted=False)


@IMPLEMENTED.of(core.get_result)
def get_result(tables: Tables, job_id: int, *, newest_errors: int | None = None) -> StoredResult | None:
    row = tables.jobs.get(job_id)
    if row is None:
        return None
    value = tables.results.get(job_id)
    history = tables.events.get(job_id, [])
    oldest = -1 if newest_errors is None else row["attempts"] - newest_errors  # a step that never ran has attempt 0
    return StoredResult(
        job=stored_job(row),
        finished_at=tables.progress(job_id).finished_at,
        value=value if value is None else json.dumps(load_jsonb(value), ensure_ascii=False),
        errors=tuple(error for error in tables.errors.get(job_id, []) if error.attempt > oldest),
        events=tuple(StoredEvent(type=EventType(event["type"]), at=event["at"]) for event in history),
    )
