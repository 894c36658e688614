"""The jobs of a test: find deferred jobs, run them at once, and move the clock."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Collection, Iterable
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from procrastinate._checks.times import UTC_MAX, require_aware, using_clock
from procrastinate.app import App
from procrastinate.jobs import Job
from procrastinate.testing.bound_connector import BoundConnector
from procrastinate.testing.clock import Clock, plus
from procrastinate.testing.default_app import find_app
from procrastinate.testing.job_runner import Runner, RunOptions, RunRecord
from procrastinate.testing.matching import AnyTask, JobFields, Pattern, missing_message, task_names, unexpected_message
from procrastinate.testing.run_at_defer import RunAtDefer
from procrastinate.worker import WorkerOptions, with_lists
from procrastinate.worker.worker_settings import read_queues

Until: TypeAlias = datetime.datetime | datetime.timedelta | Literal["empty"]

_NO_FIELDS: JobFields = {}


class Jobs:
    """Finds and runs the jobs of a test::

        with Jobs(app) as jobs:
            order()
            jobs.assert_deferred(send_mail, to="you")
            jobs.run()

    It works with any connector, on the connection and inside the transaction that the app uses in the test. A ``with``
    block replaces the clock and restores it at the end. With ``connection=`` it also replaces the app's connector.

    Parameters
    ----------
    app:
        The app or its dotted path. ``None`` means the app of the Django project.
    connection:
        A connection or session as for ``connection=`` of a task, sync or async. The app uses it for everything,
        including work that it would otherwise do on its own connections. It is neither committed nor rolled back.
    worker_options:
        Worker options that tasks and middleware can see (``additional_context``, ``worker_middleware``,
        ``task_middleware``, ``name``). They override the app's ``worker_defaults``. Finished jobs are kept unless
        ``delete_jobs`` is set here.
    """

    def __init__(
        self,
        app: App | str | None = None,
        *,
        connection: Any | None = None,
        worker_options: WorkerOptions | None = None,
    ) -> None:
        self.app = find_app(app)
        self._connection = connection
        self._worker_options = with_lists(worker_options or WorkerOptions())  # each run reads them
        self._clock = Clock()
        self._to_undo: contextlib.ExitStack | None = None

    def __enter__(self) -> Self:
        if self._to_undo is not None:
            raise RuntimeError("These Jobs are already in a with block")
        with contextlib.ExitStack() as stack:
            stack.enter_context(using_clock(self._clock.now))
            if self._connection is not None:
                bound = BoundConnector(self.app.connector, self._connection)
                stack.enter_context(self.app.replace_connector(bound))
            self._to_undo = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        to_undo, self._to_undo = self._to_undo, None
        if to_undo is not None:
            to_undo.close()
        self._clock = Clock()

    def _require_entered(self) -> None:
        if self._to_undo is None:
            raise RuntimeError("Use Jobs in a with block, or self.enterContext(Jobs(...)), which restores the clock")

    # The clock

    @property
    def now(self) -> datetime.datetime:
        """The current time of this test."""
        return self._clock.now()

    def advance(self, **delta: float) -> datetime.datetime:
        """Move the clock forward by ``timedelta(**delta)`` and return the new time. No job runs yet.

        ``run``, ``schedule_in`` and retries use this clock. The database's and Python's clocks do not change.

        Raises
        ------
        ValueError
            The clock would move back.
        """
        self._require_entered()
        return self._clock.advance(**delta)

    def freeze(self, at: datetime.datetime | None = None) -> datetime.datetime:
        """Stop the clock at an aware datetime, or now, until it is moved."""
        self._require_entered()
        return self._clock.freeze(at)

    # Running

    def run(
        self,
        *,
        queues: Iterable[str] | None = None,
        tasks: AnyTask | Collection[AnyTask] | None = None,
        limit: int | None = None,
        until: Until | None = None,
        raise_errors: bool = True,
    ) -> list[RunRecord]:
        """Run all due jobs, including the jobs that they defer.

        Jobs run one after the other, as in a worker with one slot. Locks, priorities, middleware, the job context and
        retries work as usual. Sync tasks run in this thread.

        Parameters
        ----------
        queues, tasks:
            Run only jobs of these queues or tasks.
        limit:
            The maximum number of runs. Without a limit, ``run`` raises after 10,000 runs.
        until:
            Advance the clock to each time at which a job falls due, and finally to this time. An aware datetime, a
            timedelta from now, or ``"empty"`` to continue until no scheduled job is left.
        raise_errors:
            If True, raise the exception of the first job that finally fails, after recording it. The remaining jobs
            stay waiting. If False, continue, and find exceptions in the records.

        Returns
        -------
        One record per run, in order.

        Raises
        ------
        RuntimeError
            The jobs do not come to an end.
        """
        self._require_entered()
        runner = self._runner(queues, tasks, limit, until, raise_errors, is_async=False)
        records = runner.run_sync()
        self._move_to_end(until, runner)
        return records

    async def run_async(
        self,
        *,
        queues: Iterable[str] | None = None,
        tasks: AnyTask | Collection[AnyTask] | None = None,
        limit: int | None = None,
        until: Until | None = None,
        raise_errors: bool = True,
    ) -> list[RunRecord]:
        """Run jobs like :meth:`run`, in an async test. Async tasks run in its event loop, sync tasks in a thread."""
        self._require_entered()
        runner = self._runner(queues, tasks, limit, until, raise_errors, is_async=True)
        records = await runner.run()
        self._move_to_end(until, runner)
        return records

    def _runner(
        self,
        queues: Iterable[str] | None,
        tasks: AnyTask | Collection[AnyTask] | None,
        limit: int | None,
        until: Until | None,
        raise_errors: bool,
        *,
        is_async: bool,
    ) -> Runner:
        options = RunOptions(
            queues=read_queues(queues),
            task_names=_names_of(tasks),
            limit=limit,
            until=self._as_time(until),
            raise_errors=raise_errors,
            worker_options=self._worker_options,
        )
        caller = self.app.caller_thread()
        return Runner(self.app, caller, options, self._clock.now, self._clock.move_to, is_async=is_async)

    def _as_time(self, until: Until | None) -> datetime.datetime | None:
        if until is None:
            return None
        if until == "empty":
            return UTC_MAX
        if isinstance(until, datetime.timedelta):
            return plus(self.now, until)
        require_aware("until", until)
        return until

    def _move_to_end(self, until: Until | None, runner: Runner) -> None:
        end = runner.options.until
        if end is not None and until != "empty" and end > self.now:
            self._clock.move_to(end)

    def run_at_defer(self, *, raise_errors: bool = True) -> RunAtDefer:
        """Run jobs when they are deferred, until the end of the test or a ``with`` block: see :class:`RunAtDefer`."""
        self._require_entered()
        mode = RunAtDefer(self.app, raise_errors=raise_errors, worker_options=self._worker_options)
        assert self._to_undo is not None
        self._to_undo.callback(mode.stop)
        return mode

    # Looking

    def deferred(self, task: AnyTask | None = None, fields: JobFields = _NO_FIELDS, /, **arguments: Any) -> list[Job]:
        """Return the deferred jobs, ordered by id, whatever their status.

        Parameters
        ----------
        task:
            Return only jobs of this task, given as the task (also a ``django.tasks`` task) or by name.
        fields:
            Return only jobs with these values of ``queue``, ``lock``, ``queueing_lock``, ``priority``,
            ``scheduled_at``, ``scheduled_in`` (a timedelta from now, to within ten seconds), ``status``, ``attempts``.
        arguments:
            Return only jobs with these arguments, whatever other arguments they have. Values are compared as stored, so
            a tuple equals a list. Arguments of a ``django.tasks`` task are matched by name, even if passed by position.
        """
        return self._matching(self.app.job_manager.list_jobs(), self._pattern(task, fields, arguments))

    async def deferred_async(
        self, task: AnyTask | None = None, fields: JobFields = _NO_FIELDS, /, **arguments: Any
    ) -> list[Job]:
        """Return the deferred jobs like :meth:`deferred`, in an async test."""
        return self._matching(await self.app.job_manager.list_jobs_async(), self._pattern(task, fields, arguments))

    def assert_deferred(self, task: AnyTask, fields: JobFields = _NO_FIELDS, /, **arguments: Any) -> Job:
        """Assert that a matching job was deferred and return the first one. Arguments as for :meth:`deferred`.

        Raises
        ------
        AssertionError
            No job matches. The message shows the existing jobs and their differences.
        """
        return _require_one(self._pattern(task, fields, arguments), self.app.job_manager.list_jobs())

    async def assert_deferred_async(self, task: AnyTask, fields: JobFields = _NO_FIELDS, /, **arguments: Any) -> Job:
        """Assert that a matching job was deferred, like :meth:`assert_deferred`, in an async test."""
        return _require_one(self._pattern(task, fields, arguments), await self.app.job_manager.list_jobs_async())

    def assert_not_deferred(
        self, task: AnyTask | None = None, fields: JobFields = _NO_FIELDS, /, **arguments: Any
    ) -> None:
        """Assert that no matching job was deferred. Without a task, any counts. Arguments as for :meth:`deferred`."""
        _require_none(self._pattern(task, fields, arguments), self.app.job_manager.list_jobs())

    async def assert_not_deferred_async(
        self, task: AnyTask | None = None, fields: JobFields = _NO_FIELDS, /, **arguments: Any
    ) -> None:
        """Assert that no matching job was deferred, like :meth:`assert_not_deferred`, in an async test."""
        _require_none(self._pattern(task, fields, arguments), await self.app.job_manager.list_jobs_async())

    def clear(self) -> None:
        """Delete all jobs, history and workers. Only tests that commit need this."""
        self.app.job_manager.delete_everything()

    async def clear_async(self) -> None:
        """Delete all jobs, history and workers, like :meth:`clear`, in an async test."""
        await self.app.job_manager.delete_everything_async()

    def _pattern(self, task: AnyTask | None, fields: JobFields, arguments: dict[str, Any]) -> Pattern:
        return Pattern(task, fields, arguments, as_stored=self._as_stored, now=self.now)

    def _as_stored(self, value: Any) -> Any:
        """Return a value as stored. A value that is not JSON, for example a matcher object, stays unchanged."""
        connector = self.app.connector
        try:
            return connector.json_loads(connector.json_dumps(value))
        except (TypeError, ValueError, json.JSONDecodeError):
            return value

    @staticmethod
    def _matching(jobs: Iterable[Job], pattern: Pattern) -> list[Job]:
        return [job for job in jobs if pattern.matches(job)]


def _names_of(tasks: AnyTask | Collection[AnyTask] | None) -> list[str] | None:
    if tasks is None:
        return None
    several = tasks if isinstance(tasks, Collection) and not isinstance(tasks, str) else [tasks]
    return [name for task in several for name in task_names(task) or ()]


def _require_one(pattern: Pattern, jobs: list[Job]) -> Job:
    for job in jobs:
        if pattern.matches(job):
            return job
    raise AssertionError(missing_message(pattern, jobs))


def _require_none(pattern: Pattern, jobs: list[Job]) -> None:
    found = [job for job in jobs if pattern.matches(job)]
    if found:
        raise AssertionError(unexpected_message(pattern, found))
