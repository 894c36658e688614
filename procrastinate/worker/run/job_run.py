"""Run one job once: find its task, call it and decide on the outcome."""

from __future__ import annotations

import asyncio
import contextlib
import decimal
import functools
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import CoroutineType, FrameType
from typing import TYPE_CHECKING, Any

from procrastinate import exceptions, run_observers
from procrastinate import json as typed_json
from procrastinate._functions.kinds import settle
from procrastinate._job import UnreadableArguments, UnreadArguments
from procrastinate._job_completion import JobCompletion
from procrastinate._running_loop import running_loop
from procrastinate._text.running_job import RunningJob, running_job
from procrastinate._text.tracebacks import forget_earlier
from procrastinate.core import ReportKind
from procrastinate.job_context import AbortReason, JobContext, JobResult
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.middleware import compose, is_async_middleware
from procrastinate.run_observers import ObservedRun, observed
from procrastinate.tasks import Task
from procrastinate.worker.processes import signals
from procrastinate.worker.processes.exits import ends_task, enter_job
from procrastinate.worker.processes.fork_ends import current_process, end_fork
from procrastinate.worker.run.kept_log import LogOfRun, kept
from procrastinate.worker.run.live_stack import dump_stack, stack_of_task, stack_of_thread
from procrastinate.worker.run.outcome import Outcome, RunResult, decide, decide_cut_short, with_details
from procrastinate.worker.run.preparation import Gate, Preparation, as_loggable
from procrastinate.worker.run.run_log import ExcInfo, RunLog, exc_info_of
from procrastinate.worker.run.stop_and_timeout import Cancellation
from procrastinate.worker.run.thread_call import ThreadCall
from procrastinate.worker.run.threads import SyncCalls

if TYPE_CHECKING:
    from procrastinate.worker.worker import Worker

_CANCEL_KNOWN_WITHIN = 2.0
"""Seconds that a step that has failed waits for the answer whether its workflow was cancelled."""
_NO_THREAD_DELAY = 5.0
"""Seconds until a retry after the system has refused a thread."""
_numbers = itertools.count()


class JobRun:
    """A job that this worker runs.

    :meth:`execute` runs the job and returns its outcome. :meth:`abort` asks it to stop.
    """

    def __init__(self, job: Job, worker: Worker, threads: SyncCalls, manager: JobManager, gate: Gate) -> None:
        self.job = as_loggable(job, worker)
        self._number = next(_numbers)
        self._worker = worker
        self._manager = manager
        self._threads = threads
        self._gate = gate
        self._cancellation = Cancellation()
        self._in_thread: ThreadCall | None = None
        self._job_result = JobResult(start_timestamp=time.time())
        self._run_log = RunLog(worker, self._job_result)
        self._completion: JobCompletion | None = None
        self.observed: ObservedRun | None = None
        """What observes the run, from its start on."""

    @functools.cached_property
    def _context(self) -> JobContext:
        """The context of the middleware and the task.

        It is created on first use and dropped at the end. Run and context refer to each other, and otherwise the
        garbage collector takes a fifth of the time of jobs that do nothing.
        """
        settings = self._worker.settings
        self._completion = JobCompletion(self.job, settings.delete_jobs)
        return JobContext(
            app=self._worker.app,
            worker_name=settings.name,
            worker_queues=settings.queues,
            job=self.job,
            start_timestamp=self._job_result.start_timestamp,
            additional_context=settings.additional_context.copy(),
            abort_reason=self._cancellation.reason,
            completion=self._completion,
            report=functools.partial(self._worker.reports.put, self.job),
            worker_connector=self._manager.connector,
        )

    def abort(self, reason: AbortReason) -> None:
        """Ask the job to stop: cancel an async task, or make ``context.should_abort()`` true for a sync one.

        A second call does nothing, because the task knows already.
        """
        if self._cancellation.requested is not None:
            return
        self._cancellation.requested = reason
        self._log(logging.INFO, "abort_job", "Asking job %s to stop: %s", reason.value)
        self._cancellation.cancel_task()

    def cut(self) -> None:
        """End the run now, because its worker ends at once. A thread goes on."""
        self._cancellation.cut()

    def leave(self) -> None:
        """Tell the observers that the worker does not wait for the end of this run."""
        if self.observed is not None:
            self.observed.leave()

    async def execute(self, within: asyncio.Task[Any] | None = None) -> Outcome:
        """Run the job and return its outcome. Raises nothing.

        Parameters
        ----------
        within:
            The asyncio task that :meth:`cut` cancels. ``None`` in a test that runs jobs itself.
        """
        enter_job()
        if self._worker.own_context.has_decimal:
            # All copies of a context share that object, and a task may change its precision. A copy takes 1.8 µs.
            decimal.setcontext(decimal.getcontext().copy())
        running_job.set(self._for_log_records())
        if self._cancellation.is_cut:
            return Outcome(job=self.job, status=Status.TODO, release_in=0.0)
        self._cancellation.executing = within
        if not run_observers.EVERYWHERE:
            return await self._run()
        name, hooks = self._worker.settings.name, self._worker.app.job_manager.hooks
        self.observed = ObservedRun(job=self.job, worker_name=name, app_hooks=hooks)
        with observed(self.observed):
            try:
                return await self._run()
            except BaseException as error:
                if ends_task(error):
                    self.observed.end(Status.DOING, error)
                raise

    async def _run(self) -> Outcome:
        # The result is no variable here. The frames of its exception lead back to this frame, and the cycle would keep
        # what the task had in memory until the garbage collector runs.
        return self._conclude(*await self._find_and_call())

    def _conclude(self, task: Task[Any, Any, Any] | None, result: RunResult) -> Outcome:
        """Decide on the outcome of the run, and log it."""
        if self._cancellation.is_cut and self._was_cut_short(result):
            return self._cut_short(task, result)
        self._job_result.end_timestamp = time.time()
        self._job_result.result = result.value
        outcome = self._with_details(self._decide(task, result), task, result)
        if outcome.release_in is None:
            self._run_log.write_outcome(self.job, outcome, self._cancellation.requested)
        self.__dict__.pop("_context", None)
        self._in_thread = None  # it refers to this run, too
        return outcome

    def _for_log_records(self) -> RunningJob:
        return RunningJob(
            job_id=self.job.id,
            task=self.job.task_name,
            queue=self.job.queue,
            attempt=self.job.attempts + 1,
            worker_name=self._worker.settings.name,
            meta=None if not self.job.meta or self._hides_arguments() else self.job.meta,
            app=self._worker.app,
        )

    def _hides_arguments(self) -> bool:
        """Return True if the task says that log records never show what its jobs are about."""
        task = self._worker.app.find_task(self.job.task_name)
        return task is not None and not task.log_arguments

    def _was_cut_short(self, result: RunResult) -> bool:
        """Return True if the cut ended the run. False if the task ended by itself before."""
        return self._is_left or isinstance(result.exception, asyncio.CancelledError)

    def _cut_short(self, task: Task[Any, Any, Any] | None, result: RunResult) -> Outcome:
        """Return the outcome of a run that :meth:`cut` has cancelled."""
        if self._is_left:
            message = (
                "Job %s goes on in its thread, which cannot be stopped. It stays in status doing until the thread or "
                "this process ends. Then another worker runs it again"
            )
            self._log(logging.WARNING, "job_left", message)
            return Outcome(job=self.job, status=Status.TODO, is_left=True)
        if task is None:
            return Outcome(job=self.job, status=Status.TODO, release_in=0.0)
        if self._cancellation.requested is not None or (self._completion is not None and self._completion.is_recorded):
            outcome = self._with_details(self._decide(task, result), task, result)
            self._run_log.write_outcome(self.job, outcome, self._cancellation.requested)
            return outcome
        self._log(
            logging.WARNING, "job_cut_short", "Job %s was cancelled because its worker ends at once: it runs again"
        )
        return decide_cut_short(self.job, store_errors=self._worker.settings.store_errors)

    async def _find_and_call(self) -> tuple[Task[Any, Any, Any] | None, RunResult]:
        logger = self._worker.logger
        if logger.isEnabledFor(logging.DEBUG):
            self._log(logging.DEBUG, "loaded_job_info", "Loaded job %s")
        try:
            if self.job.workflow_id is not None or isinstance(self.job.task_kwargs, UnreadArguments):
                ended = await self._prepare()
                if ended is not None:
                    return None, ended
        except asyncio.CancelledError as error:
            if not self._cancellation.is_cut:
                raise
            return None, RunResult(exception=error)
        try:
            task = self._worker.find_task_of(self.job)
        except exceptions.TaskNotFound as error:
            return None, self._without_task(error)
        except BaseException as error:
            forget_earlier(error, self._is_of_earlier_run)
            # The look-up may run code of the program. An exception of that code counts as the end of the run.
            return None, RunResult(exception=error)
        if isinstance(self.job.task_kwargs, UnreadableArguments):
            message = f"The arguments of job {self.job.call_string} cannot be read: {self.job.task_kwargs.reason}"
            return None, RunResult(exception=exceptions.InvalidJob(message))
        if logger.isEnabledFor(logging.INFO):
            self._log(logging.INFO, "start_job", "Starting job %s")
        try:
            call = self._call_and_keep_log if task.keep_logs else self._call_with_worker_middleware
            value = await call(task)
        except BaseException as error:
            # Also SystemExit and KeyboardInterrupt: a job must not take its worker down.
            forget_earlier(error, self._is_of_earlier_run)
            if self._in_thread is not None and self._in_thread.is_refused:
                return task, self._without_thread()
            return task, await self._raised(error)
        if self._in_thread is not None and self._in_thread.is_refused:  # and middleware caught the exception
            return task, self._without_thread()
        return task, RunResult(value=value)

    def _is_of_earlier_run(self, frame: FrameType) -> bool:
        """Return true for the outermost frame of a run that began before this one. A later run is part of this one."""
        if frame.f_code is not JobRun._find_and_call.__code__:
            return False
        other = frame.f_locals.get("self")
        return isinstance(other, JobRun) and other._number < self._number

    async def _raised(self, error: BaseException) -> RunResult:
        """Return the result of a task that raised. A step of a workflow that was cancelled is not retried."""
        reason = self._cancellation.reason()
        is_cancelled = False
        if self.job.workflow_id is not None and reason in (None, AbortReason.TIMEOUT) and not self._cancellation.is_cut:
            # Without an answer it is retried, and asked at its next start. An outage does not keep its slot for long.
            with contextlib.suppress(exceptions.ConnectorException, asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout(_CANCEL_KNOWN_WITHIN):
                    is_cancelled = not await self._gate.may_start(self.job.workflow_id)
        return RunResult(exception=error, abort_reason=reason, is_cancelled=is_cancelled)

    async def _prepare(self) -> RunResult | None:
        """Read what the job needs. Return what becomes of the run if the task may not be called."""
        preparation = Preparation(self.job, self._worker, self._manager, self._gate, self._cancellation, self._run_log)
        try:
            return await preparation.prepare()
        finally:
            self.job = preparation.job

    def _without_task(self, error: exceptions.TaskNotFound) -> RunResult:
        """Leave the job to a worker that knows the task, up to a time limit. After that the job fails."""
        leave = self._worker.unknown_tasks.meet(self.job.task_name, self.job.id or 0)
        if leave is None:
            self._log(logging.ERROR, "task_not_found", "The task of job %s was not found: %s", self.job.task_name)
            return RunResult(exception=error)
        message = "The task of job %s is unknown here: the job waits %.0f s for a worker that knows it. %s"
        level = logging.WARNING if leave.is_first else logging.DEBUG
        self._log(level, "task_unknown", message, leave.pause, error)
        return RunResult(release_in=leave.pause)

    def _without_thread(self) -> RunResult:
        """Release the unstarted job for a worker that can start a thread."""
        message = "The system refuses a thread for job %s: the job waits %.0f s for a worker that gets one"
        self._log(logging.WARNING, "job_without_thread", message, _NO_THREAD_DELAY)
        return RunResult(release_in=_NO_THREAD_DELAY)

    async def _call_and_keep_log(self, task: Task[Any, Any, Any]) -> Any:
        with kept(LogOfRun(functools.partial(self._worker.reports.put, self.job, ReportKind.LOG))):
            return await self._call_with_worker_middleware(task)

    async def _call_with_worker_middleware(self, task: Task[Any, Any, Any]) -> Any:
        middleware = self._worker.settings.worker_middleware
        may_be_replaced = task.is_async and signals.reach_workers()
        try:
            if task.is_async:
                self._cancellation.allow()
            if not middleware:
                return await self._call_task(task)
            return await self._with_middleware(middleware, functools.partial(self._call_task, task))()
        finally:
            if task.is_async:
                self._cancellation.disallow()
            if may_be_replaced and signals.reach_workers_again(asyncio.get_running_loop()):
                message = "Job %s has replaced handlers of signals: those of the worker are in place again"
                self._log(logging.WARNING, "signal_handlers_replaced", message)

    async def _call_task(self, task: Task[Any, Any, Any]) -> Any:
        arguments = [self._context] if task.pass_context else []
        call: Callable[[], Any] = functools.partial(task.func, *arguments, **self._task_kwargs(task))
        middleware = self._task_middleware(task)
        if middleware:
            call = self._with_middleware(middleware, call)
        if not task.is_async:
            self._in_thread = ThreadCall(self._threads, self._worker.app, self._discard)
            call = functools.partial(self._in_thread.run, call)
        wait_for = None if task.is_async else self._wait_for
        if task.timeout is None:  # spares the jobs without a limit two calls
            return await _settled(task.name, call, wait_for)
        settled = functools.partial(_settled, task.name, call, wait_for)
        return await self._cancellation.call_within(task, task.timeout, settled, lambda: self._is_left)

    async def _wait_for(self, awaitable: Awaitable[Any]) -> Any:
        """Wait for what a sync task has returned, as for the call of an async task.

        A sync wrapper around an async function returns its coroutine. A request to stop cancels the coroutine, and the
        async middleware of the worker runs around it.
        """
        if running_loop() is None:  # a test of sync code runs the job
            return await awaitable
        middleware = [one for one in self._worker.settings.task_middleware if is_async_middleware(one)]
        try:
            self._cancellation.allow()
            return await self._with_middleware(middleware, functools.partial(_itself, awaitable))()
        finally:
            self._cancellation.disallow()
            if isinstance(awaitable, CoroutineType):
                awaitable.close()  # avoids Python's warning if it was never awaited

    def _task_kwargs(self, task: Task[Any, Any, Any]) -> Mapping[str, Any]:
        """Return the arguments, in the types of the annotations if the connector decodes so."""
        if self._worker.app.connector.json_loads is not typed_json.loads:
            return self.job.task_kwargs
        return task.argument_types.read(task.name, self.job.task_kwargs)

    def describe_stack(self) -> str:
        """Return where the job is, as the text of a report. Called in the event loop."""
        call, executing = self._in_thread, self._cancellation.executing
        if call is not None and call.thread is not None:
            return dump_stack(stack_of_thread(lambda: call.thread))
        return dump_stack("" if executing is None else stack_of_task(executing))

    @property
    def _is_left(self) -> bool:
        return self._in_thread is not None and self._in_thread.is_left

    def _discard(self, exception: BaseException | None) -> None:
        """Log the late return of a call. Runs in the thread of a task whose run has ended already."""
        message = "Job %s returned in its thread after the end of its run: this outcome is not recorded"
        self._log(logging.WARNING, "discard_late_result", message, exc_info=exc_info_of(exception))

    def _task_middleware(self, task: Task[Any, Any, Any]) -> Sequence[Callable[..., Any]]:
        of_worker = self._worker.settings.task_middleware
        if not of_worker:
            return task.task_middleware
        return [*(one for one in of_worker if is_async_middleware(one) is task.is_async), *task.task_middleware]

    def _with_middleware(self, middleware: Sequence[Callable[..., Any]], call: Callable[[], Any]) -> Callable[[], Any]:
        return compose(middleware, call, self._context, self._worker)

    def _decide(self, task: Task[Any, Any, Any] | None, result: RunResult) -> Outcome:
        if self._completion is not None and self._completion.is_recorded:
            self._warn_of_late_exception(result.exception)
            self._warn_of_late_result(task, result.value, self._completion)
            return Outcome(job=self.job, status=Status.SUCCEEDED, is_recorded=True, result=self._completion.result)
        try:
            return decide(self.job, task, result)
        except BaseException as error:
            # An exception in the user's retry strategy must not leave the job in status doing.
            error.__context__ = result.exception
            return Outcome(job=self.job, status=Status.FAILED, exception=error)

    def _warn_of_late_exception(self, exception: BaseException | None) -> None:
        if exception is not None:
            message = "Job %s raised after its transaction was committed: it counts as succeeded"
            self._log(logging.WARNING, "raised_after_commit", message, exc_info=exc_info_of(exception))

    def _warn_of_late_result(self, task: Task[Any, Any, Any] | None, value: Any, completion: JobCompletion) -> None:
        if task is not None and task.store_result and value is not None and completion.result is None:
            message = (
                "Job %s returned a value after its transaction, which is not stored: use context.set_result() inside"
            )
            self._log(logging.WARNING, "returned_after_commit", message)

    def _with_details(self, outcome: Outcome, task: Task[Any, Any, Any] | None, result: RunResult) -> Outcome:
        return with_details(
            outcome,
            task,
            result,
            json_dumps=self._worker.app.connector.json_dumps,
            store_errors=self._worker.settings.store_errors,
        )

    def _log(self, level: int, action: str, message: str, *arguments: Any, exc_info: ExcInfo | None = None) -> None:
        if self._worker.logger.isEnabledFor(level):
            self._run_log.write(self.job, level, action, message, *arguments, exc_info=exc_info)


async def _itself(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _settled(
    task_name: str,
    call: Callable[[], Awaitable[Any]],
    wait_for: Callable[[Awaitable[Any]], Awaitable[Any]] | None,
) -> Any:
    process = current_process()
    try:
        value = await call()
        if value is not None:
            value = await settle(task_name, value, wait_for)
    except BaseException as error:
        end_fork(process, error)
        raise
    end_fork(process)
    return value
