"""Contain what a job does to the event loop: it ends the job and not the worker.

- asyncio lets SystemExit and KeyboardInterrupt out of a task or callback through the loop, which ends every job on it.
  So a task that a job starts turns both into :class:`~procrastinate.exceptions.TaskExit`. If a callback of a job raises
  one, a loop that only the worker uses goes on.
- ``for task in asyncio.all_tasks(): task.cancel()`` in a job would cancel the worker and the other jobs. So the worker
  hides its tasks from asyncio's list.
- A loop that only the worker uses goes on after ``loop.stop()`` and after an exception from a signal handler. A job
  may set an alarm, which rings while other code runs.
- A job may close the descriptors of the loop (``os.closerange``), which then never turns again. That ends the worker.
- The program's task factory may start tasks at once (``asyncio.eager_task_factory``). The worker's tasks still start in
  the next turn of the loop, because the worker's code relies on that.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import enum
import functools
import signal
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterator
from types import CodeType, TracebackType
from typing import Any, TypeAlias, TypeVar, cast

from procrastinate import exceptions
from procrastinate._text.logs import get_logger
from procrastinate.worker.processes import signals

logger = get_logger(__name__)

T = TypeVar("T")
Factory: TypeAlias = Callable[..., Any]


class _Place(enum.Enum):
    """Owner of the running code."""

    PROGRAM = enum.auto()
    WORKER = enum.auto()
    JOB = enum.auto()


_place: contextvars.ContextVar[_Place] = contextvars.ContextVar("procrastinate_place", default=_Place.PROGRAM)


_loops: list[asyncio.AbstractEventLoop] = []
"""Event loops of the running workers, one entry a worker."""

_broken: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
"""Event loops that cannot turn any more."""

_MOST_FAILURES = 10
"""Failures of a loop in a row, without a turn, after which it counts as broken."""


def enter_job() -> None:
    """Mark the current context as a job's, so that its new tasks are contained."""
    _place.set(_Place.JOB)


@contextlib.contextmanager
def contained(loop: asyncio.AbstractEventLoop, worker_context: contextvars.Context) -> Iterator[None]:
    """Contain the tasks that jobs create on this loop, and hide the worker's tasks, until the end of the block.

    The loop's task factory still makes the tasks.

    Parameters
    ----------
    worker_context:
        The context in which jobs start. The function marks it as the worker's, and also the current context
        for the block.
    """
    former = loop.get_task_factory()
    factory = _containing(former, loop)
    loop.set_task_factory(factory)
    worker_context.run(_place.set, _Place.WORKER)
    outside = _place.get()
    _place.set(_Place.WORKER)
    _loops.append(loop)
    try:
        yield
    finally:
        _loops.remove(loop)
        _place.set(outside)
        if loop.get_task_factory() is factory:  # otherwise a later factory wraps this one and still calls it
            loop.set_task_factory(former)


def run(main: Coroutine[Any, Any, T], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """Run a coroutine on a loop of its own, like :func:`asyncio.run`, and survive what a job does to the loop.

    SystemExit ends the run only if a signal handler raised it. KeyboardInterrupt ends it after a stop signal, or if the
    worker does not handle signals.

    Raises
    ------
    RuntimeError
        The loop cannot turn any more. Other workers rescue the jobs.
    """
    with contextlib.ExitStack() as ends:
        runner = ends.enter_context(asyncio.Runner(loop_factory=loop_factory))
        work = runner.get_loop().create_task(main)
        _hide(work)
        failures = 0
        while True:
            turned = asyncio.Event()
            try:
                runner.run(_end_of(work, turned))
                return work.result()
            except BaseException as error:
                if work.done() or not _is_of_a_job(error, runner.get_loop()):
                    asyncio.tasks._register_task(work)  # the runner cancels what asyncio lists
                    raise
                failures = 0 if turned.is_set() else failures + 1
                if failures == _MOST_FAILURES:
                    ends.pop_all()
                    raise _give_up(runner) from error
                message = "A job interrupted the event loop (%r): the worker goes on"
                with contextlib.suppress(BaseException):  # a failing log handler must not end the worker
                    logger.error(message, error, exc_info=error, extra={"action": "exit_contained"})


def ends_task(error: BaseException) -> bool:
    """Return True if the error is the cancellation of the current task.

    False if another awaited task was cancelled, or the program's code raised CancelledError itself.
    """
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def has_ended(loop: asyncio.AbstractEventLoop) -> bool:
    """Return True if the loop is closed or broken. Safe in any thread."""
    return loop.is_closed() or loop in _broken


async def _end_of(work: asyncio.Task[Any], turned: asyncio.Event) -> None:
    """Note that the loop has a turn, and wait until the work is done. Each cancellation (Ctrl-C) cancels the work."""
    turned.set()
    current = asyncio.current_task()
    assert current is not None
    _hide(current)
    is_cancelled = False
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            is_cancelled = True
            work.cancel()
    if is_cancelled:
        raise asyncio.CancelledError


def _give_up(runner: asyncio.Runner) -> RuntimeError:
    """Close the runner of a broken loop, as far as possible, and return the error to raise."""
    _broken.add(runner.get_loop())
    with contextlib.suppress(Exception):
        runner.close()
    return RuntimeError("The event loop of the worker is broken, and other workers rescue its jobs")


def _is_of_a_job(error: BaseException, loop: asyncio.AbstractEventLoop) -> bool:
    """Return True if a job, and neither the program nor a signal, ended the turn of a worker's loop."""
    if loop not in _loops:
        return False
    if isinstance(error, SystemExit):
        return not _is_from_signal_handler(error.__traceback__)
    if isinstance(error, KeyboardInterrupt):
        return signals.are_handled()
    # The runner raises RuntimeError after loop.stop(). Any other exception comes from a signal handler, because the
    # loop catches what callbacks raise. Exceptions of the work itself take another path.
    return isinstance(error, Exception) and not loop.is_closed()


def _is_from_signal_handler(traceback: TracebackType | None) -> bool:
    codes = {_code(signal.getsignal(number)) for number in signal.valid_signals()}
    while traceback is not None:
        if traceback.tb_frame.f_code in codes:
            return True
        traceback = traceback.tb_next
    return False


def _code(handler: Any) -> CodeType | None:
    """Return the code of a signal handler written in Python, or ``None``."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not hasattr(handler, "__code__"):  # methods have it too
        handler = getattr(handler, "__call__", None)  # noqa: B004
    return getattr(handler, "__code__", None)


def _hide(task: asyncio.Task[Any]) -> None:
    asyncio.tasks._unregister_task(task)


def _containing(former: Factory | None, loop: asyncio.AbstractEventLoop) -> Factory:
    is_eager = former is not None and _starts_at_once(former, loop)

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        context: contextvars.Context | None = options.get("context")
        place = _place.get() if context is None else context.get(_place, _Place.PROGRAM)
        if place is _Place.JOB:
            coroutine = _Contained(coroutine)
        elif is_eager and place is _Place.WORKER:
            coroutine = _Later(coroutine)
        task = asyncio.Task(coroutine, loop=loop, **options) if former is None else former(loop, coroutine, **options)
        if place is _Place.WORKER:
            _hide(task)
        return task

    return factory


def _starts_at_once(make: Factory, loop: asyncio.AbstractEventLoop) -> bool:
    """Return True if the task factory runs the first lines of a coroutine before it returns the task."""
    has_started = False

    async def start() -> None:
        nonlocal has_started
        has_started = True

    make(loop, start())
    return has_started


class _Around(Coroutine[Any, Any, Any]):
    """Wrapper around a coroutine.

    An ``async def`` wrapper would not do. If the task is cancelled before it starts, the wrapped coroutine never starts
    either, and Python warns of a coroutine that was never awaited.
    """

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def __getattr__(self, name: str) -> Any:
        """Return the coroutine's attributes that asyncio shows: name, code and frame."""
        return getattr(self._coroutine, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        """Return the wrapper itself, for a task factory of the program that awaits it in a coroutine."""
        return cast("Generator[Any, Any, Any]", self)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *exception: Any) -> Any:
        return self._coroutine.throw(*exception)

    def close(self) -> None:
        self._coroutine.close()


class _Contained(_Around):
    """Coroutine wrapper: SystemExit and KeyboardInterrupt become :class:`~procrastinate.exceptions.TaskExit`."""

    __slots__ = ()

    def send(self, value: Any) -> Any:
        try:
            return self._coroutine.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise _exit_of(error) from error

    def throw(self, *exception: Any) -> Any:
        try:
            return self._coroutine.throw(*exception)
        except (SystemExit, KeyboardInterrupt) as error:
            raise _exit_of(error) from error


class _Later(_Around):
    """Coroutine wrapper that starts in the next turn of the loop, even if its task starts at once."""

    __slots__ = ("_has_waited",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        super().__init__(coroutine)
        self._has_waited = False

    def send(self, value: Any) -> Any:
        if self._has_waited:
            return self._coroutine.send(value)
        self._has_waited = True
        return None  # a task treats it as a bare yield


def _exit_of(error: BaseException) -> exceptions.TaskExit:
    return exceptions.TaskExit(f"{error!r} was raised in an asyncio task that the job had started")
