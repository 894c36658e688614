"""Runs waiting jobs at once on a test's connection, with the parts of a worker but without a worker."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import datetime
import functools
import json
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

from procrastinate._caller_thread import CallerThread
from procrastinate._checks.times import Clock
from procrastinate.app import App
from procrastinate.connector import BaseConnector, Operation, P, R
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.retry import RetryDecision
from procrastinate.testing.clock import plus
from procrastinate.testing.jsonb import load_jsonb
from procrastinate.worker import Worker, WorkerOptions, worker_options
from procrastinate.worker.own_context import OwnContext
from procrastinate.worker.run.job_run import JobRun
from procrastinate.worker.run.outcome import Outcome, hands_over
from procrastinate.worker.run.recorder import write_outcomes

T = TypeVar("T")

ENDLESS = 10_000
"""The number of runs after which jobs that keep coming are considered endless."""
_PROMOTER_PAUSE = 0.05
"""Seconds between attempts to promote jobs while another connection is the promoter."""
_PROMOTER_PAUSES = 100

is_running: contextvars.ContextVar[bool] = contextvars.ContextVar("procrastinate_test_runs_jobs", default=False)
"""True in code that runs as part of a job of a test."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run of a job in a test."""

    job: Job
    """The job as fetched. ``job.attempts`` counts the runs before this one."""
    status: Status
    """The job's status after the run, ``TODO`` for a retry. It equals its text, as in ``record.status == "todo"``."""
    result: Any = None
    """The task's return value, or the value of ``context.set_result()`` as it is read back."""
    exception: BaseException | None = None
    """The exception of the run."""

    @property
    def is_retried(self) -> bool:
        """True if the job waits for a retry."""
        return self.status is Status.TODO


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Which jobs to run, and when to stop."""

    queues: Collection[str] | None = None
    task_names: Collection[str] | None = None
    limit: int | None = None
    """The maximum number of runs."""
    raise_errors: bool = True
    """True to raise the exception of a job that finally fails."""
    until: datetime.datetime | None = None
    """Move the clock to each due time up to this one."""
    worker_options: WorkerOptions = dataclasses.field(default_factory=WorkerOptions)


class Runner:
    """Runs jobs one after the other, in the order of a worker with one slot.

    Parameters
    ----------
    caller:
        Runs sync tasks.
    clock, move_clock:
        Read and set the time.
    is_async:
        True if the caller is async. For a sync caller :meth:`run` does not wait, and only code that needs an event loop
        gets one. Passing each call to another thread and back would take longer than the jobs.
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
        self._manager = JobManager(app.connector if is_async else _CallersConnector(app.connector, caller))
        self._caller = caller
        self.options = options
        self._clock = clock
        self._move_clock = move_clock
        self._result: Any = None
        self._job_run: JobRun | None = None
        self._promote_next = True
        self._worker = self._make_worker(app)
        self.records: list[RunRecord] = []

    def _make_worker(self, app: App) -> Worker:
        """Make the worker that tasks and middleware see. It is never started."""
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
        """Run jobs like :meth:`run`, for a sync caller."""
        return self._caller.run(self.run)

    async def run(self) -> list[RunRecord]:
        """Run jobs until none is due or the limit is reached.

        Raises
        ------
        BaseException
            A job finally failed with it, and ``raise_errors`` is set.
        RuntimeError
            The jobs do not come to an end.
        """
        token = is_running.set(True)
        self._worker.own_context = OwnContext(contextvars.copy_context())
        hook_before, self._app.job_manager.defer_hook = self._app.job_manager.defer_hook, self
        try:
            worker_id = await self._register()
            await self._run_all(worker_id)
        finally:
            self._app.job_manager.defer_hook = hook_before
            is_running.reset(token)
        await self._manager.unregister_worker(worker_id)
        return self.records

    async def _register(self) -> int:
        if limits := self._app.list_limits():
            await self._manager.define_limits([limit.definition for limit in limits])
        worker_id = self._worker.worker_id = await self._manager.register_worker()
        return worker_id

    async def _run_all(self, worker_id: int) -> None:
        try:
            while self._may_go_on() and (job := await self._next_job(worker_id)) is not None:
                await self._run(job, worker_id)
        except BaseException:
            await self._unregister_quietly(worker_id)
            raise

    def _may_go_on(self) -> bool:
        done = len(self.records)
        if self.options.limit is None and done >= ENDLESS:
            last = self.records[-1].job
            raise RuntimeError(
                f"{done} runs, and no end: the last was of {last.call_string}. Do jobs defer or retry themselves "
                "without an end? Use run(limit=...) to stop after that many"
            )
        return self.options.limit is None or done < self.options.limit

    async def _unregister_quietly(self, worker_id: int) -> None:
        """Unregister the worker and only log an error. The exception under way says more than a broken transaction."""
        try:
            await self._manager.unregister_worker(worker_id)
        except Exception:
            self._worker.logger.debug("The worker of the test could not be unregistered", exc_info=True)

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
        """Promote before the next fetch: a job has deferred jobs that may run before the ready ones."""
        self._promote_next = True

    async def deferred_async(self, connection: Any | None) -> None:
        """Promote before the next fetch, like :meth:`deferred`."""
        self._promote_next = True

    async def _promote(self) -> datetime.datetime | None:
        """Promote jobs that are due by the test's clock, and return the next due time."""
        self._promote_next = False
        now = self._clock()
        for _ in range(_PROMOTER_PAUSES):
            promotion = await self._manager.promote_jobs(due_by=now)
            if promotion.has_arrivals and (await self._manager.resolve_arrivals()).gets_on:
                continue
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
        self._tell_observers(outcome, status)
        self._promote_next = self._promote_next or _frees_something(job) or status is Status.TODO
        if reports := self._worker.reports.take():
            await self._manager.write_reports(reports, worker_id=worker_id)
        result = self._set_result(outcome) if outcome.is_recorded else self._result
        self.records.append(RunRecord(job=job, status=status, result=result, exception=outcome.exception))
        self._raise(outcome, status)

    def _set_result(self, outcome: Outcome) -> Any:
        """Return the result that the task set in its transaction, or else its return value."""
        if outcome.result is None:
            return self._result
        return self._app.connector.json_loads(json.dumps(load_jsonb(outcome.result), ensure_ascii=False))

    async def _record(self, outcome: Outcome, worker_id: int) -> Status:
        delete_jobs = self._worker.settings.delete_jobs
        written = await write_outcomes(self._manager, [outcome], worker_id=worker_id, delete_jobs=delete_jobs)
        return written.retried.get(outcome.job_id, outcome.status)

    async def _execute(self, job: Job) -> Outcome:
        """Run the job in a copy of the caller's context, so that its context variables do not leak."""
        run = self._job_run = JobRun(job, self._worker, _InCallerThread(self._caller), self._manager, self)
        context = self._worker.own_context.copy()
        if self._is_async:
            return await context.run(asyncio.create_task, run.execute())
        if not self._needs_event_loop(job):
            return context.run(self._caller.run, run.execute)

        async def execute() -> Outcome:
            async with self._app.open_async():
                return await run.execute()

        return context.run(self._caller.drive, execute)

    def _tell_observers(self, outcome: Outcome, status: Status) -> None:
        run, self._job_run = self._job_run, None
        if run is not None and run.observed is not None:
            run.observed.end(status, outcome.exception)

    async def may_start(self, group_id: int) -> bool:
        """Return whether a step of this group may start: its workflow was not cancelled."""
        return not await self._manager.list_cancelled_groups([group_id])

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
        """Return the outcome with the retry's wait computed from the test's clock instead of the database's."""
        decision = outcome.retry_decision
        if decision is None or decision.seconds is None:
            return outcome
        at = plus(self._clock(), datetime.timedelta(seconds=decision.seconds))
        decision = RetryDecision(retry_at=at, priority=decision.priority, queue=decision.queue, lock=decision.lock)
        return outcome._replace(retry_decision=decision)


def _frees_something(job: Job) -> bool:
    return hands_over(job) or job.workflow_id is not None


class _CallersConnector(BaseConnector):
    """Runs awaited operations in the caller's thread: at once, or while an event loop runs in another thread."""

    def __init__(self, connector: BaseConnector, caller: CallerThread) -> None:
        super().__init__(json_dumps=connector.json_dumps, json_loads=connector.json_loads)
        self._connector = connector
        self._caller = caller

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation of a sync task, which runs in the caller's thread."""
        return self._connector.run(operation, *args, **kwargs)

    async def run_async(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._caller.call(functools.partial(self._connector.run, operation, *args, **kwargs))


class _InCallerThread:
    """Runs sync tasks in the thread of the test."""

    def __init__(self, caller: CallerThread) -> None:
        self._caller = caller

    async def run(
        self, call: Callable[[], T], discard: Callable[[T], None], on_left: Callable[[], None] | None = None
    ) -> T:
        """Call in the caller's thread, which nothing else may use before the call has returned."""
        return await self._caller.call(call)
