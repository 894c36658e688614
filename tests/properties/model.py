"""A simple model of the queue: a dict of jobs, and the effect of each operation on it.

The model has no readiness, indexes or triggers. ``held`` has the rows that an open transaction of a user has locked.
Operations of workers skip them.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from procrastinate.core import FetchedJob, FinishedJob, JobRetry, NewJob
from tests.conformance.steps import FUTURE


@dataclasses.dataclass
class Job:
    """A job, with only the columns that affect the order of runs."""

    id: int
    queue_name: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    is_due: bool
    status: str = "todo"
    attempts: int = 0
    rescues: int = 0
    worker_id: int | None = None
    abort_requested: bool = False
    limit_name: str | None = None
    limit_key: str | None = None
    limit_weight: int | None = None

    @property
    def weight(self) -> int:
        """Return how many slots of its limit the job takes."""
        return self.limit_weight or 1

    @property
    def rank(self) -> tuple[int, int]:
        """Return the sort key of the job. A lower rank runs sooner."""
        return (-self.priority, self.id)

    @property
    def has_ended(self) -> bool:
        """Return whether the job has a final status."""
        return self.status not in ("todo", "doing")

    def end(self, status: str) -> None:
        """End the job with a final status."""
        self.attempts += self.status == "doing"
        self.status, self.abort_requested = status, False

    def wait_again(self, *, is_due: bool = True) -> None:
        """Return the job to the queue."""
        self.attempts += self.status == "doing"
        self.status, self.abort_requested, self.worker_id, self.is_due = "todo", False, None, is_due


@dataclasses.dataclass
class Model:
    """All jobs, the registered workers, and the rows that an open transaction has locked."""

    jobs: dict[int, Job] = dataclasses.field(default_factory=dict)
    workers: set[int] = dataclasses.field(default_factory=set)
    held: set[int] = dataclasses.field(default_factory=set)
    last_id: int = 0
    released: Counter[int] = dataclasses.field(default_factory=Counter)

    def rows(self) -> dict[int, dict[str, Any]]:
        """Return the expected rows of the table."""
        return {job_id: dataclasses.asdict(job) for job_id, job in self.jobs.items()}

    def waiting_under(self, queueing_lock: str | None) -> Job | None:
        """Return the waiting job with a queueing lock, if any."""
        if queueing_lock is None:
            return None
        return next((job for job in self.jobs.values() if _waits(job) and job.queueing_lock == queueing_lock), None)

    # Defer

    def insert(self, job_id: int, new: NewJob) -> None:
        """Insert a new job, whose id must be new."""
        assert job_id > self.last_id
        self.last_id = job_id
        job = Job(job_id, new.queue_name, new.priority, new.lock, new.queueing_lock, _is_due(new))
        job.limit_name, job.limit_key, job.limit_weight = new.limit_name, new.limit_key, new.limit_weight
        self.jobs[job_id] = job

    def replace(self, job: Job, new: NewJob) -> None:
        """Replace a waiting job by the new one."""
        job.queue_name, job.priority, job.lock, job.is_due = new.queue_name, new.priority, new.lock, _is_due(new)
        job.limit_name, job.limit_key, job.limit_weight = new.limit_name, new.limit_key, new.limit_weight

    def accepted(self, new_jobs: Iterable[NewJob]) -> list[NewJob]:
        """Return the new jobs whose queueing lock is free."""
        taken = {job.queueing_lock for job in self.jobs.values() if _waits(job)} - {None}
        found = []
        for new in new_jobs:
            if new.queueing_lock not in taken:
                found.append(new)
                taken |= {new.queueing_lock} - {None}
        return found

    # Fetch

    def fetchable(self, queues: Collection[str] | None) -> list[Job]:
        """Return the jobs without a limit that could start now: each is due, and the first of a free lock.

        They share no lock with jobs that have a limit. Which of those have slots depends on when they were admitted.
        """
        running = {job.lock for job in self.jobs.values() if job.status == "doing"} - {None}
        first: dict[object, Job] = {}
        for job in sorted((job for job in self.jobs.values() if _waits(job) and job.is_due), key=lambda job: job.rank):
            first.setdefault(job.id if job.lock is None else job.lock, job)
        ready = [job for job in first.values() if job.lock not in running]
        ready = [job for job in ready if job.limit_key is None]
        return [job for job in ready if queues is None or job.queue_name in queues]

    def keys_with_room(self, name: str, concurrency: int) -> set[str | None]:
        """Return the keys of a limit whose next job fits into the slots that are free.

        A job that never fits and one whose lock is held let the next one pass.
        """
        taken: Counter[str | None] = Counter()
        for job in self.running():
            if job.limit_name == name:
                taken[job.limit_key] += job.weight
        due = [job for job in self._in_line(name) if job.weight <= concurrency]
        first = {job.limit_key: job for job in reversed(due)}
        return {key for key, job in first.items() if taken[key] + job.weight <= concurrency}

    def has_room(self, name: str, total: int) -> bool:
        """Return whether a job of any key of a limit fits into the slots that are free. All jobs weigh one."""
        return bool(self._in_line(name)) and sum(job.limit_name == name for job in self.running()) < total

    def _in_line(self, name: str) -> list[Job]:
        locks = {job.lock for job in self.running()} - {None}
        waiting = (job for job in self.jobs.values() if _waits(job) and job.is_due and job.limit_name == name)
        return sorted((job for job in waiting if job.lock not in locks), key=lambda job: job.rank)

    def is_limited(self, job_id: int) -> bool:
        """Return whether the job has a limit."""
        return job_id in self.jobs and self.jobs[job_id].limit_key is not None

    def start(self, job_id: int, worker_id: int) -> Job:
        """Start a job that a worker has fetched."""
        job = self.jobs[job_id]
        assert _waits(job), job
        assert job.is_due, job
        assert job_id not in self.held
        assert worker_id in self.workers
        if job.lock is not None:
            assert not [other for other in self.jobs.values() if other.status == "doing" and other.lock == job.lock]
        job.status, job.worker_id = "doing", worker_id
        return job

    # Record

    def is_current(self, outcome: FinishedJob | JobRetry | FetchedJob, worker_id: int) -> bool:
        """Return whether the job still runs in that attempt for that worker, and its row is unlocked."""
        job = self.jobs.get(outcome.id)
        if job is None or job.id in self.held:
            return False
        return (job.status, job.worker_id, job.attempts) == ("doing", worker_id, outcome.attempts)

    def finish(self, outcomes: Sequence[FinishedJob], worker_id: int) -> set[int]:
        """Record the current outcomes."""
        recorded = {outcome.id: outcome for outcome in outcomes if self.is_current(outcome, worker_id)}
        for job_id, outcome in recorded.items():
            if outcome.delete:
                del self.jobs[job_id]
            else:
                self.jobs[job_id].end(outcome.status.value)
        return set(recorded)

    def retry(self, retries: Sequence[JobRetry], worker_id: int) -> dict[int, str]:
        """Retry jobs. A job with an abort request fails."""
        current = [retry for retry in retries if self.is_current(retry, worker_id)]
        returning = sorted((self.jobs[retry.id] for retry in current), key=lambda job: (job.abort_requested, job.id))
        self._settle_queueing_locks(returning)
        for retry in current:
            job = self.jobs[retry.id]
            is_due = retry.retry_at != FUTURE
            if job.abort_requested:
                job.end("failed")
                job.worker_id = None
            else:
                job.wait_again()
            job.is_due = is_due
            job.priority = job.priority if retry.priority is None else retry.priority
            job.queue_name, job.lock = retry.queue_name or job.queue_name, retry.lock or job.lock
        return {retry.id: self.jobs[retry.id].status for retry in current}

    def release(self, fetched: Sequence[FetchedJob], worker_id: int, *, keep_queueing_locks: bool) -> dict[int, str]:
        """Release jobs as if they had not been fetched. A job with an abort request ends."""
        returning = [self.jobs[one.id] for one in fetched if self.is_current(one, worker_id)]
        self._settle_queueing_locks(sorted(returning, key=lambda job: (job.abort_requested, job.id)))
        for job in returning:
            job.status = "aborted" if job.abort_requested else "todo"
            job.abort_requested, job.worker_id = False, None
            job.queueing_lock = job.queueing_lock if keep_queueing_locks else None
            self.released[job.id] += 1
        return {job.id: job.status for job in returning}

    def _settle_queueing_locks(self, returning: Sequence[Job]) -> None:
        """Give a queueing lock to the first returning job, or to none if another waiting job holds it."""
        taken = {job.queueing_lock for job in self.jobs.values() if _waits(job)}
        for job in returning:
            if job.queueing_lock in taken:
                job.queueing_lock = None
            else:
                taken.add(job.queueing_lock)

    def retry_by_hand(self, job_id: int, *, is_due: bool, lock: str | None) -> bool:
        """Retry a failed or running job, and reset its rescues."""
        job = self.jobs.get(job_id)
        if job is None or job.status not in ("failed", "doing"):
            return False
        self._settle_queueing_locks([job])
        job.wait_again(is_due=is_due)
        job.rescues, job.lock = 0, lock or job.lock
        return True

    def finish_by_id(self, job_id: int, status: str, *, delete: bool) -> bool:
        """A user sets the status that a job ended with."""
        job = self.jobs.get(job_id)
        if job is None or job.has_ended:
            return False
        if delete:
            del self.jobs[job_id]
        else:
            job.end(status)
        return True

    def cancel(self, job_id: int, *, abort: bool, delete: bool) -> bool:
        """Cancel a waiting job, or request the abort of a running one."""
        job = self.jobs.get(job_id)
        if job is None or job.has_ended or (job.status == "doing" and not abort):
            return False
        if job.status == "doing":
            job.abort_requested = True
        elif delete:
            del self.jobs[job_id]
        else:
            job.status = "cancelled"
        return True

    # Workers

    def take_back(self, lost: Iterable[Job], *, max_rescues: int, limit: int) -> dict[int, str]:
        """Rescue jobs of lost workers: each waits again, or ends."""
        taken = sorted((job for job in lost if job.id not in self.held), key=lambda job: job.id)[:limit]
        ended = {job.id: job.abort_requested or job.rescues >= max_rescues for job in taken}
        self._settle_queueing_locks(sorted(taken, key=lambda job: (ended[job.id], job.id)))
        for job in taken:
            if ended[job.id]:
                job.end("aborted" if job.abort_requested else "failed")
                job.worker_id = None
            else:
                job.wait_again(is_due=job.is_due)
            job.rescues += 1
        return {job.id: job.status for job in taken}

    def running(self) -> list[Job]:
        """Return the running jobs."""
        return [job for job in self.jobs.values() if job.status == "doing"]


def _waits(job: Job) -> bool:
    return job.status == "todo"


def _is_due(new: NewJob) -> bool:
    return new.scheduled_at != FUTURE
