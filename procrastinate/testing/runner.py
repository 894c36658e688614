"""Runs waiting jobs here and now, on the connection of a test: with the pieces of a worker, and without a worker."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import datetime
import json
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

from procrastinate.app import App
from procrastinate.caller_thread import CallerThread
from procrastinate.connector import BaseConnector, Operation, P, R
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.retry import RetryDecision
from procrastinate.testing.clock import plus
from procrastinate.testing.jsonb import load_jsonb
from procrastinate.timing import Clock
from procrastinate.worker import Worker, WorkerOptions, worker_options
from procrastinate.worker.job_run import JobRun
from procrastinate.worker.outcome import Outcome
from procrastinate.worker.recorder import write_outcomes

T = TypeVar("T")

ENDLESS = 10_000
"""Runs after which jobs that keep coming are taken for endless."""
_PROMOTER_PAUSE = 0.05
"""Seconds until the next look where another connection decides which jobs are ready."""
_PROMOTER_PAUSES = 100

is_running: contextvars.ContextVar[bool] = contextvars.ContextVar("procrastinate_test_runs_jobs", default=False)
"""Whether this code is called by a job that a test runs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run of a job in a test."""

    job: Job
    """As it was fetched: ``job.attempts`` counts the runs before this one."""
    status: Status
    """What became of the job: ``TODO`` where it is tried again. It equals its text, ``record.status == "todo"``."""
    result: Any = None
    """What the task returned; or, where it called ``context.set_result()``, that, as it is read back."""
    exception: BaseException | None = None
    """What the run raised."""

    @property
    def is_retried(self) -> bool:
        """Whether the job waits to be tried again."""
        return self.status is Status.TODO


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Which jobs to run, and how long to go on."""

    queues: Collection[str] | None = None
    task_names: Collection[str] | None = None
    limit: int | None = None
    """At most so many runs."""
    raise_errors: bool = True
    """Raise what a job raised that has failed for good."""
    until: datetime.datetime | None = None
    """Move the clock to each time at which a job falls due, until then."""
    worker_options: WorkerOptions = dataclasses.field(default_factory=WorkerOptions)


class Runner:
    """Runs jobs one after the other, in the order in which a worker with a single slot would.

    Parameters
    ----------
    caller:
        Where sync tasks run.
    clock, move_clock:
        What the time is, and how to set it.
    is_async:
        Whether the caller is. For one that is sync, :meth:`run` waits for nothing: only what needs an event loop gets
        one. (To hand every call over to another thread and back would take longer than the jobs.)
    """

    def __init__(
        self,
        app: App,
        caller: CallerThread,
        options: RunOptions,
        clock: Clock,
        move_clock: Callable[[datetime.datetime], None],
        *,
        is_async: bool,
    ) -> None:
        self._app = app
        self._is_async = is_async
        self._manager = JobManager(app.connector if is_async else _InlineConnector(app.connector))
        self._caller = caller
        self.options = options
        self._clock = clock
        self._move_clock = move_clock
        self._result: Any = None
        self._promote_next = True
        self._worker = self._make_worker(app)
        self.records: list[RunRecord] = []

    def _make_worker(self, app: App) -> Worker:
        """What tasks and middleware take for the worker. It is never started."""
        app.perform_import_paths()
        options: WorkerOptions = {**worker_options(app.worker_defaults), **self.options.worker_options}
        own = options.get("worker_middleware") or ()
        self._has_own_middleware = bool(own)
        options["worker_middleware"] = [self._keep_result, *self._caller.around_jobs(), *own]
        options["queues"] = self.options.queues
        options["unknown_task_timeout"] = 0.0  # a test has no other worker to wait for
        options["delete_jobs"] = self.options.worker_options.get("delete_jobs")
        return Worker(app, **options)

    async def _keep_result(self, call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: Worker) -> Any:
        self._result = None
        self._result = await call_next()
        return self._result

    def run_sync(self) -> list[RunRecord]:
        """As :meth:`run`, for a caller that is sync."""
        return self._caller.run(self.run)

    async def run(self) -> list[RunRecord]:
        """Run jobs until none is due, or the limit is reached.

        Raises
        ------
        BaseException
            What a job raised that has failed for good, unless that is to be collected.
        RuntimeError
            There is no end to the jobs.
        """
        token = is_running.set(True)
        self._worker.own_context = contextvars.copy_context()
        hook_before, self._app.job_manager.defer_hook = self._app.job_manager.defer_hook, self
        worker_id = self._worker.worker_id = await self._manager.register_worker()
        try:
            while self._may_go_on() and (job := await self._next_job(worker_id)) is not None:
                await self._run(job, worker_id)
        except BaseException:
            await self._unregister_quietly(worker_id)
            raise
        finally:
            self._app.job_manager.defer_hook = hook_before
            is_running.reset(token)
        await self._manager.unregister_worker(worker_id)
        return self.records

    def _may_go_on(self) -> bool:
        done = len(self.records)
        if self.options.limit is None and done >= ENDLESS:
            last = self.records[-1].job
            raise RuntimeError(
                f"{done} runs, and there is no end: the last was of {last.call_string}. Do jobs defer or retry "
                "themselves for ever? Say run(limit=...) to run so many"
            )
        return self.options.limit is None or done < self.options.limit

    async def _unregister_quietly(self, worker_id: int) -> None:
        """Whatever was raised tells more than that the transaction is broken."""
        try:
            await self._manager.unregister_worker(worker_id)
        except Exception:
            self._worker.logger.debug("The worker of the test could not sign off", exc_info=True)

    # The next job

    async def _next_job(self, worker_id: int) -> Job | None:
        if not self._promote_next and (job := await self._fetch(worker_id)) is not None:
            return job
        while True:
            next_due = await self._promote()
            if (job := await self._fetch(worker_id)) is not None:
                return job
            if next_due is None or self.options.until is None or next_due > self.options.until:
                return None
            self._move_clock(next_due)

    async def _fetch(self, worker_id: int) -> Job | None:
        queues, task_names = self.options.queues, self.options.task_names
        fetched = await self._manager.fetch_jobs(queues, worker_id, limit=1, task_names=task_names)
        return fetched[0] if fetched else None

    def deferred(self, connection: Any | None) -> None:
        """A job has deferred others: they may come before those that are ready."""
        self._promote_next = True

    async def deferred_async(self, connection: Any | None) -> None:
        """As :meth:`deferred`."""
        self._promote_next = True

    async def _promote(self) -> datetime.datetime | None:
        """Make ready what is due by the clock of the test, and tell when the next job falls due."""
        self._promote_next = False
        now = self._clock()
        for _ in range(_PROMOTER_PAUSES):
            promotion = await self._manager.promote_jobs(due_by=now)
            if not promotion.again:
                break
            if not promotion.promoted:
                await self._caller.call(lambda: time.sleep(_PROMOTER_PAUSE))
        if promotion.next_due_in is None:
            return None
        return plus(now, datetime.timedelta(seconds=promotion.next_due_in))

    # Its run

    async def _run(self, job: Job, worker_id: int) -> None:
        self._result = None
        outcome = self._by_clock(await self._execute(job))
        status = outcome.status if outcome.is_recorded else await self._record(outcome, worker_id)
        self._promote_next = self._promote_next or job.lock is not None or status is Status.TODO
        result = self._set_result(outcome) if outcome.is_recorded else self._result
        self.records.append(RunRecord(job=job, status=status, result=result, exception=outcome.exception))
        self._raise(outcome, status)

    def _set_result(self, outcome: Outcome) -> Any:
        """What the task has set in its transaction; where it set nothing, what it returned."""
        if outcome.result is None:
            return self._result
        return self._app.connector.json_loads(json.dumps(load_jsonb(outcome.result), ensure_ascii=False))

    async def _record(self, outcome: Outcome, worker_id: int) -> Status:
        delete_jobs = self._worker.settings.delete_jobs
        written = await write_outcomes(self._manager, [outcome], worker_id=worker_id, delete_jobs=delete_jobs)
        return written.retried.get(outcome.job_id, outcome.status)

    async def _execute(self, job: Job) -> Outcome:
        """Run the job in a copy of the caller's context: neither the next job nor the caller sees what it sets."""
        run = JobRun(job, self._worker, _InCallerThread(self._caller), self._manager)
        context = self._worker.own_context.copy()
        if self._is_async:
            return await context.run(asyncio.create_task, run.execute())
        if not self._needs_event_loop(job):
            return context.run(self._caller.run, run.execute)

        async def execute() -> Outcome:
            async with self._app.open_async():
                return await run.execute()

        return context.run(self._caller.drive, execute)

    def _needs_event_loop(self, job: Job) -> bool:
        task = self._app.find_task_of(job)
        return self._has_own_middleware or (task is not None and (task.is_async or task.timeout is not None))

    def _raise(self, outcome: Outcome, status: Status) -> None:
        error = outcome.exception
        if error is None:
            return
        is_failure = status is Status.FAILED and self.options.raise_errors
        if is_failure or isinstance(error, KeyboardInterrupt):
            error.add_note(f"Raised by job {outcome.job.call_string}, which the test runs")
            raise error

    def _by_clock(self, outcome: Outcome) -> Outcome:
        """The same, with the wait for a retry reckoned from the clock of the test, and not the database's."""
        decision = outcome.retry_decision
        if decision is None or decision.seconds is None:
            return outcome
        at = plus(self._clock(), datetime.timedelta(seconds=decision.seconds))
        decision = RetryDecision(retry_at=at, priority=decision.priority, queue=decision.queue, lock=decision.lock)
        return dataclasses.replace(outcome, retry_decision=decision)


class _InlineConnector(BaseConnector):
    """Runs what is awaited here and now, as sync code does."""

    def __init__(self, connector: BaseConnector) -> None:
        super().__init__(json_dumps=connector.json_dumps, json_loads=connector.json_loads)
        self._connector = connector.get_sync_connector()

    async def run_async(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return self._connector.run(operation, *args, **kwargs)


class _InCallerThread:
    """Runs sync tasks in the thread of the test."""

    def __init__(self, caller: CallerThread) -> None:
        self._caller = caller

    async def run(
        self, call: Callable[[], T], discard: Callable[[T], None], on_left: Callable[[], None] | None = None
    ) -> T:
        """Call in the caller's thread, which nothing else may use before the call has returned."""
        return await self._caller.call(call)
