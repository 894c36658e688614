"""The jobs of a test: what was deferred, running it here and now, and the clock."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Collection, Iterable
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from procrastinate.app import App
from procrastinate.jobs import Job
from procrastinate.testing.bound_connector import BoundConnector
from procrastinate.testing.clock import Clock, plus
from procrastinate.testing.default_app import find_app
from procrastinate.testing.matching import AnyTask, JobFields, Pattern, missing_message, task_names, unexpected_message
from procrastinate.testing.run_at_defer import RunAtDefer
from procrastinate.testing.runner import Runner, RunOptions, RunRecord
from procrastinate.timing import UTC_MAX, require_aware, using_clock
from procrastinate.worker import WorkerOptions
from procrastinate.worker.options import read_queues

Until: TypeAlias = datetime.datetime | datetime.timedelta | Literal["empty"]

_NO_FIELDS: JobFields = {}


class Jobs:
    """What a test has to do with jobs::

        with Jobs(app) as jobs:
            order()
            jobs.assert_deferred(send_mail, to="you")
            jobs.run()

    It works on any connector, on the connection that the app itself uses in the test: inside the transaction that is
    open there. A ``with`` block replaces the clock (and, with ``connection=``, the connector of the app) and puts them
    back.

    Parameters
    ----------
    app:
        The app, or its dotted path; ``None`` for that of a Django project.
    connection:
        What ``connection=`` of a task takes: a connection or a session, sync or async, on which everything is to
        happen: also what the app would do on connections of its own. It is neither committed nor rolled back.
    worker_options:
        Options of a worker that tasks and middleware can see (``additional_context``, ``worker_middleware``,
        ``task_middleware``, ``name``), over the ``worker_defaults`` of the app. Jobs that have run are kept, unless
        ``delete_jobs`` is among them.
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
        self._worker_options = worker_options or WorkerOptions()
        self._clock = Clock()
        self._to_undo: contextlib.ExitStack | None = None

    def __enter__(self) -> Self:
        if self._to_undo is not None:
            raise RuntimeError("These Jobs are in a with block already")
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
            raise RuntimeError("Use Jobs in a with block, or self.enterContext(Jobs(...)): it puts things back")

    # The clock

    @property
    def now(self) -> datetime.datetime:
        """What the time is in this test."""
        return self._clock.now()

    def advance(self, **delta: float) -> datetime.datetime:
        """Move the clock on by ``timedelta(**delta)``, and return what the time is then. Nothing runs yet.

        It is the clock of ``run``, of ``schedule_in`` and of retries, and not that of the database, nor Python's own.

        Raises
        ------
        ValueError
            It would go back.
        """
        self._require_entered()
        return self._clock.advance(**delta)

    def freeze(self, at: datetime.datetime | None = None) -> datetime.datetime:
        """Let the clock stand still, at an aware datetime or now, until it is moved."""
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
        """Run the jobs that are due, those that they defer too, until there are none.

        They run one after the other, as in a worker with a single slot: locks, priorities, middleware, the job context
        and retries are at work. Sync tasks run in this thread.

        Parameters
        ----------
        queues, tasks:
            Only the jobs of these queues, of these tasks.
        limit:
            At most so many runs. Without it, 10,000 are taken for endless.
        until:
            Go on until then: move the clock to each time at which a job falls due, and at last there. An aware
            datetime, a timedelta from now, or ``"empty"`` until no job waits for its time.
        raise_errors:
            Raise what a job raised that has failed for good, after it was recorded; the jobs behind it are left
            waiting. False: go on, and find it in the records.

        Returns
        -------
        A record of each run, in order.

        Raises
        ------
        RuntimeError
            The jobs come to no end.
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
        """As :meth:`run`, in an async test. Async tasks run in its event loop, sync tasks in a thread."""
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
        """Immediate mode, from now to the end of the test or of a ``with`` block: see :class:`RunAtDefer`."""
        self._require_entered()
        mode = RunAtDefer(self.app, raise_errors=raise_errors, worker_options=self._worker_options)
        assert self._to_undo is not None
        self._to_undo.callback(mode.stop)
        return mode

    # Looking

    def deferred(self, task: AnyTask | None = None, fields: JobFields = _NO_FIELDS, /, **arguments: Any) -> list[Job]:
        """The jobs that were deferred, whatever has become of them, by id.

        Parameters
        ----------
        task:
            Only those of this task, given by itself (also one of ``django.tasks``) or by its name.
        fields:
            Only those with these values: of ``queue``, ``lock``, ``queueing_lock``, ``priority``, ``scheduled_at``,
            ``scheduled_in`` (a timedelta from now, give or take ten seconds), ``status``, ``attempts``.
        arguments:
            Only those with these arguments, whatever others they have. Compared as stored: a tuple is a list. Those of
            a task of ``django.tasks`` by name, however they were given.
        """
        return self._matching(self.app.job_manager.list_jobs(), self._pattern(task, fields, arguments))

    async def deferred_async(
        self, task: AnyTask | None = None, fields: JobFields = _NO_FIELDS, /, **arguments: Any
    ) -> list[Job]:
        """As :meth:`deferred`."""
        return self._matching(await self.app.job_manager.list_jobs_async(), self._pattern(task, fields, arguments))

    def assert_deferred(self, task: AnyTask, fields: JobFields = _NO_FIELDS, /, **arguments: Any) -> Job:
        """Assert that such a job was deferred, and return it (the first, of several); arguments as :meth:`deferred`.

        Raises
        ------
        AssertionError
            It shows the jobs that are there, and how they differ.
        """
        return _require_one(self._pattern(task, fields, arguments), self.app.job_manager.list_jobs())

    async def assert_deferred_async(self, task: AnyTask, fields: JobFields = _NO_FIELDS, /, **arguments: Any) -> Job:
        """As :meth:`assert_deferred`."""
        return _require_one(self._pattern(task, fields, arguments), await self.app.job_manager.list_jobs_async())

    def assert_not_deferred(
        self, task: AnyTask | None = None, fields: JobFields = _NO_FIELDS, /, **arguments: Any
    ) -> None:
        """Assert that no such job was deferred; without a task, none at all. Arguments as :meth:`deferred`."""
        _require_none(self._pattern(task, fields, arguments), self.app.job_manager.list_jobs())

    async def assert_not_deferred_async(
        self, task: AnyTask | None = None, fields: JobFields = _NO_FIELDS, /, **arguments: Any
    ) -> None:
        """As :meth:`assert_not_deferred`."""
        _require_none(self._pattern(task, fields, arguments), await self.app.job_manager.list_jobs_async())

    def clear(self) -> None:
        """Delete all jobs, all history and all workers. Needed after tests that commit, and by those only."""
        self.app.job_manager.delete_everything()

    async def clear_async(self) -> None:
        """As :meth:`clear`."""
        await self.app.job_manager.delete_everything_async()

    def _pattern(self, task: AnyTask | None, fields: JobFields, arguments: dict[str, Any]) -> Pattern:
        return Pattern(task, fields, arguments, as_stored=self._as_stored, now=self.now)

    def _as_stored(self, value: Any) -> Any:
        """A value that is no JSON (one that compares equal to many, say) is compared as it is."""
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
