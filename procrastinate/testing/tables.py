"""The tables in memory, with the behaviour of the database's triggers.

The operations (:mod:`procrastinate.testing.queue`, :mod:`procrastinate.testing.upkeep`) read rows directly. They write
with :meth:`Tables.insert`, :meth:`Tables.update` and :meth:`Tables.delete`, and each call is one statement. As the
triggers do for the real tables, these methods write the history, send notifications, set ``finished_at`` and unpark the
next job of a released lock.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, cast

from procrastinate.core import (
    EventType,
    JobError,
    NewError,
    NewJob,
    Pause,
    Readiness,
    ReportKind,
    WorkerIdentity,
    WorkerTerms,
)
from procrastinate.core.channels import (
    ANY_QUEUE_CHANNEL,
    FINISHED_CHANNEL,
    LARGEST_ANNOUNCEMENT,
    Notification,
    queue_channel,
)
from procrastinate.testing.jsonb import load_jsonb
from procrastinate.testing.limit_rows import LeftSlot, LimitRow, StartRow
from procrastinate.testing.lines import hand_over
from procrastinate.testing.rates import line_up_returned, record_starts
from procrastinate.testing.row_change import RowChange, left_slot
from procrastinate.testing.rows import (
    DOING,
    LONG_AGO,
    NOT_ENDED,
    PROGRESS_COLUMNS,
    TODO,
    Condition,
    Dependency,
    EventRow,
    GroupRow,
    JobRow,
    Progress,
    StoredReport,
    UniqueRow,
    in_order,
    matching,
)


class Tables:
    """All rows, and the notifications to send.

    Rows are plain dicts. Users' tests read them and may change them, so no other copy exists except for the columns of
    :class:`Progress`.
    """

    def __init__(self) -> None:
        self.jobs: dict[int, JobRow] = {}
        self.events: dict[int, list[EventRow]] = {}
        self.uniques: dict[str, UniqueRow] = {}
        self.workers: dict[int, datetime.datetime] = {}
        self.worker_terms: dict[int, WorkerTerms] = {}
        self.worker_identities: dict[int, WorkerIdentity | None] = {}
        self.periodic_defers: dict[tuple[str, str], int] = {}
        self.results: dict[int, str] = {}
        self.errors: dict[int, list[JobError]] = {}
        self.limits: dict[str, LimitRow] = {}
        self.starts: list[StartRow] = []
        self.hold_offs: dict[tuple[str, str], datetime.datetime] = {}
        self.last_keys: dict[str, str] = {}
        self.tick_jobs: dict[tuple[str, str, int], int | None] = {}
        self.reports: dict[int, dict[tuple[int, ReportKind], StoredReport]] = {}
        self.pauses: dict[str, Pause] = {}
        self.groups: dict[int, GroupRow] = {}
        self.dependencies: dict[int, list[Dependency]] = {}
        self.has_arrivals = False
        self.exist = True
        self.now = LONG_AGO
        self.notifications: list[tuple[str, str]] = []
        self._progress: dict[int, Progress] = {}
        self._job_ids = itertools.count(1)
        self._worker_ids = itertools.count(1)
        self._group_ids = itertools.count(1)

    # Reading

    def progress(self, job_id: int) -> Progress:
        """Return the internal columns of a job."""
        return self._progress.setdefault(job_id, Progress())

    def where(self, condition: Condition) -> list[JobRow]:
        """Return the jobs that meet the condition, by id."""
        return sorted((row for row in self.jobs.values() if condition(row)), key=lambda row: row["id"])

    def find(self, job_id: int, *statuses: str) -> JobRow | None:
        """Return the job with this id if it has one of these statuses."""
        row = self.jobs.get(job_id)
        return row if row is not None and row["status"] in statuses else None

    def is_ready(self, row: JobRow) -> bool:
        """Return true if a fetch may claim this job."""
        free = row["scheduled_at"] is None and row["lock"] is None
        return row["status"] == TODO and (free or self.progress(row["id"]).readiness == Readiness.PROMOTED)

    def is_upcoming(self, row: JobRow) -> bool:
        """Return true if this job waits for its due time, or for the next look at its lock."""
        free = row["scheduled_at"] is None and row["lock"] is None
        return row["status"] == TODO and not free and self.progress(row["id"]).readiness == Readiness.UNDECIDED

    def is_parked(self, row: JobRow) -> bool:
        """Return true if this job waits behind the holder of its lock."""
        return row["status"] == TODO and self.progress(row["id"]).readiness == Readiness.PARKED

    def is_in_line(self, row: JobRow) -> bool:
        """Return true if this job waits for a slot of its limit."""
        return row["status"] == TODO and self.progress(row["id"]).readiness == Readiness.IN_LINE

    def waits_for_others(self, row: JobRow) -> bool:
        """Return true if this step of a workflow waits for other jobs."""
        return row["status"] == TODO and self.progress(row["id"]).readiness == Readiness.WAITS_FOR_OTHERS

    def weight(self, row: JobRow) -> int:
        """Return how many slots of its limit a job takes."""
        return self.progress(row["id"]).limit_weight or 1

    def holds_slot(self, row: JobRow) -> bool:
        """Return true if this job has a limit, and runs or may be fetched."""
        progress = self.progress(row["id"])
        promoted = row["status"] == TODO and progress.readiness == Readiness.PROMOTED
        return progress.limit_name is not None and (row["status"] == DOING or promoted)

    def is_of(self, row: JobRow, name: str, key: str | None = None) -> bool:
        """Return true if this job has the limit, and this key unless it is ``None``."""
        progress = self.progress(row["id"])
        return progress.limit_name == name and key in (None, progress.limit_key)

    def holds_lock(self, row: JobRow) -> bool:
        """Return true if this job runs or may be fetched, and so holds its lock."""
        promoted = row["status"] == TODO and self.progress(row["id"]).readiness == Readiness.PROMOTED
        return row["lock"] is not None and (row["status"] == DOING or promoted)

    def holders(self) -> dict[str, JobRow]:
        """Return the holder of each held lock."""
        return {row["lock"]: row for row in self.where(self.holds_lock) if row["lock"] is not None}

    def ended_at(self, job_id: int) -> datetime.datetime:
        """Return ``finished_at`` or the time of the last event, the earlier one: tests set either. By default, now."""
        finished_at = self.progress(job_id).finished_at or self.now
        history = self.events.get(job_id, [])
        last = max(
            (event["at"] for event in history if event["type"] != EventType.SCHEDULED.value), default=finished_at
        )
        return min(last, finished_at)

    def paused_queues(self) -> set[str]:
        """Return the names of the queues that are paused now."""
        return {queue for queue, pause in self.pauses.items() if pause.until is None or pause.until > self.now}

    def is_served(self, row: JobRow) -> bool:
        """Return true if a worker takes jobs of this queue, or if there is no worker."""
        identities = [self.worker_identities.get(worker_id) for worker_id in self.workers]
        if any(one is None or not one.queues for one in identities):
            return True
        return not identities or any(one is not None and row["queue_name"] in (one.queues or ()) for one in identities)

    def first_parked(self, lock: str, without: Collection[str] = ()) -> JobRow | None:
        """Return the job that is next when the lock is released, without the jobs of some queues."""
        parked = self.where(
            lambda row: row["lock"] == lock and self.is_parked(row) and row["queue_name"] not in without
        )
        return min(parked, key=in_order, default=None)

    def last_parked(self, lock: str) -> JobRow | None:
        """Return the parked job of a lock that comes last."""
        parked = self.where(lambda row: row["lock"] == lock and self.is_parked(row))
        return max(parked, key=in_order, default=None)

    def taken_queueing_locks(self) -> set[str]:
        """Return the queueing locks of all waiting jobs."""
        waiting = self.where(matching(status=TODO))
        return {row["queueing_lock"] for row in waiting if row["queueing_lock"] is not None}

    # Writing

    def next_worker_id(self) -> int:
        """Return an unused worker id."""
        return next(self._worker_ids)

    def next_group_id(self) -> int:
        """Return an unused id of a workflow or a group."""
        return next(self._group_ids)

    def hold(self, job_id: int, until: datetime.datetime) -> None:
        """Let a new step wait for others."""
        self.jobs[job_id]["scheduled_at"] = until
        self.progress(job_id).readiness = Readiness.WAITS_FOR_OTHERS

    def insert(self, new_jobs: Iterable[NewJob]) -> list[int]:
        """Insert jobs and return their ids."""
        rows = [self._new_row(job) for job in new_jobs]
        for row in rows:
            self.jobs[row["id"]] = row
            self._add_event(row["id"], EventType.DEFERRED)
            if row["scheduled_at"] is not None and not self.is_in_line(row):
                self._add_event(row["id"], EventType.SCHEDULED, row["scheduled_at"])
        self.notify_waiting(rows)
        return [row["id"] for row in rows]

    def _new_row(self, job: NewJob) -> JobRow:
        job_id = next(job_id for job_id in self._job_ids if job_id not in self.jobs)
        columns = self.columns_of(job)
        for name in ("readiness", "limit_name", "limit_key", "limit_weight"):
            setattr(self.progress(job_id), name, columns[name])
        row = JobRow(
            id=job_id,
            queue_name=job.queue_name,
            task_name=job.task_name,
            priority=job.priority,
            lock=job.lock,
            queueing_lock=job.queueing_lock,
            args=load_jsonb(job.args),
            status=TODO,
            scheduled_at=columns["scheduled_at"],
            attempts=0,
            abort_requested=False,
            worker_id=None,
        )
        if job.meta is not None:
            row["meta"] = job.meta
        if job.trace_context is not None:
            row["trace_context"] = job.trace_context
        return row

    def columns_of(self, job: NewJob) -> dict[str, Any]:
        """Return the columns of a new job. A job that has a limit and no schedule gets in line."""
        columns = dataclasses.asdict(job) | {"args": load_jsonb(job.args), "readiness": Readiness.UNDECIDED}
        if job.limit_name is not None and job.scheduled_at is None:
            columns |= {"scheduled_at": self.now, "readiness": Readiness.IN_LINE}
        return columns

    def update(self, changes: Mapping[int, Mapping[str, Any]]) -> None:
        """Set columns of jobs, given by id."""
        updates = [self._change(job_id, values) for job_id, values in changes.items()]
        changed = [update for update in updates if update.is_noteworthy]
        record_starts(self, (update for update in changed if update.is_start))
        for update in changed:
            self._write_history(update)
        self.notify_waiting(update.row for update in changed if update.row["status"] == TODO)
        for update in changed:
            if update.is_abort_requested and update.row["status"] == DOING:
                self._notify(update.row["queue_name"], {"type": "abort_job_requested", "job_id": update.row["id"]})
        if any(update.is_ended_member for update in changed):
            self.has_arrivals = True
        self._look_again(update.row for update in changed if update.is_stale)
        left = [update for update in changed if not update.waits_again(self.now)]
        held = {update.released_lock for update in left if update.was_holder}
        self._unpark_next({update.released_lock for update in left}, held)
        line_up_returned(self, (update for update in changed if update.is_returned))
        self._hand_over(update.left_slot for update in changed)

    def delete(self, job_ids: Collection[int]) -> None:
        """Delete jobs with their history, results and errors."""
        released, held = set(), set()
        holders = [self.jobs[job_id] for job_id in job_ids if self.holds_slot(self.jobs[job_id])]
        left = [left_slot(row, self.progress(row["id"])) for row in holders]
        for job_id in job_ids:
            row, progress = self.jobs.pop(job_id), self._progress.pop(job_id, Progress())
            self.dependencies.pop(job_id, None)
            if row["status"] in NOT_ENDED and "workflow_id" in row:
                self.groups[row["workflow_id"]].lost += 1
                self.has_arrivals = True
            for kept in (self.events, self.results, self.errors, self.reports):
                kept.pop(job_id, None)
            if row["status"] == DOING or (row["status"] == TODO and progress.readiness != Readiness.PARKED):
                released.add(row["lock"])
            if row["status"] == DOING or (row["status"] == TODO and progress.readiness == Readiness.PROMOTED):
                held.add(row["lock"])
        for tick, job_id_of_tick in self.tick_jobs.items():
            if job_id_of_tick in job_ids:
                self.tick_jobs[tick] = None
        self._unpark_next(released, held)
        self._hand_over(left)

    def _change(self, job_id: int, values: Mapping[str, Any]) -> RowChange:
        row, progress = self.jobs[job_id], self.progress(job_id)
        update = RowChange(was=copy.copy(row), was_progress=copy.copy(progress), row=row, progress=progress)
        for name, value in values.items():
            if name in PROGRESS_COLUMNS:
                setattr(progress, name, value)
            else:
                cast(dict[str, Any], row)[name] = value
        # Set here, so that operations that end a job need not set it.
        if progress.finished_at is None and row["status"] not in NOT_ENDED:
            progress.finished_at = self.now
        return update

    def keep_error(self, job_id: int, error: NewError, worker_id: int | None) -> None:
        """Store the error of a job's last attempt."""
        attempt = self.jobs[job_id]["attempts"]
        kept = JobError(attempt=attempt, worker_id=worker_id, at=self.now, **dataclasses.asdict(error))
        self.errors.setdefault(job_id, []).append(kept)

    def announce(self, job_ids: list[int]) -> None:
        """Notify the callers that wait for these jobs."""
        for start in range(0, len(job_ids), LARGEST_ANNOUNCEMENT):
            finished = {"type": "jobs_finished", "job_ids": job_ids[start : start + LARGEST_ANNOUNCEMENT]}
            self.notifications.append((FINISHED_CHANNEL, json.dumps(finished)))

    # Effects of a change

    def _unpark_next(self, locks: Iterable[str | None], held: Collection[str | None]) -> None:
        """Hand each lock that its holder has left to the next job.

        A promotion looks at the first job of another free lock, and at the last one of a lock that has a holder.
        """
        holders = self.holders()
        chosen = [
            self.last_parked(lock) if lock in holders else self.first_parked(lock) for lock in locks if lock is not None
        ]
        rows = [row for row in chosen if row is not None]
        handed = {
            row["id"]
            for row in rows
            if row["lock"] in held
            and row["lock"] not in holders
            and self.progress(row["id"]).limit_name is None
            and not self.paused_queues()
        }
        if rows:
            readiness = {True: Readiness.PROMOTED, False: Readiness.UNDECIDED}
            self.update({row["id"]: {"readiness": readiness[row["id"] in handed]} for row in rows})

    def _hand_over(self, left: Iterable[LeftSlot | None]) -> None:
        """Hand over the slots that jobs have left, or ask a worker for an admission."""
        found = [slot for slot in left if slot is not None]
        if found and hand_over(self, found):
            last = max(found, key=lambda slot: slot.job_id)
            self._notify(last.queue_name, {"type": "job_inserted", "job_id": last.job_id, "upcoming": True})

    def _look_again(self, rows: Iterable[JobRow]) -> None:
        undecided = {row["id"]: {"readiness": Readiness.UNDECIDED} for row in rows}
        if undecided:
            self.update(undecided)

    def _write_history(self, update: RowChange) -> None:
        row = update.row
        if update.is_moved and update.event_type is not None:
            self._add_event(row["id"], update.event_type)
        if row["status"] == TODO and row["scheduled_at"] is not None and (update.is_moved or update.is_rescheduled):
            self._add_event(row["id"], EventType.SCHEDULED, row["scheduled_at"])
        if update.is_abort_requested:
            self._add_event(row["id"], EventType.ABORT_REQUESTED)

    def _add_event(self, job_id: int, event_type: EventType, at: datetime.datetime | None = None) -> None:
        event = EventRow(type=event_type.value, at=at or self.now)
        self.events.setdefault(job_id, []).append(event)

    def notify_waiting(self, rows: Iterable[JobRow]) -> None:
        """Send one notification per queue with waiting jobs. A parked job needs none."""
        awake = [row for row in rows if not self.is_parked(row)]
        for queue, of_queue in _by_queue(awake):
            upcoming = any(self.is_upcoming(row) or self.is_in_line(row) for row in of_queue)
            last_id = max(row["id"] for row in of_queue)
            self._notify(queue, {"type": "job_inserted", "job_id": last_id, "upcoming": upcoming})

    def notify_pauses(self, queue_name: str) -> None:
        """Tell the workers that a queue was paused or resumed."""
        self._notify(queue_name, {"type": "job_inserted", "job_id": 1, "pauses": True})

    def notify_stack(self, queue_name: str, job_id: int) -> None:
        """Ask the worker of a job for its stack."""
        self._notify(queue_name, {"type": "abort_job_requested", "job_id": job_id, "stack": True})

    def _notify(self, queue_name: str, notification: Notification) -> None:
        payload = json.dumps(notification)
        self.notifications += [(queue_channel(queue_name), payload), (ANY_QUEUE_CHANNEL, payload)]


def _by_queue(rows: Collection[JobRow]) -> Iterator[tuple[str, list[JobRow]]]:
    for queue in sorted({row["queue_name"] for row in rows}):
        yield queue, [row for row in rows if row["queue_name"] == queue]
