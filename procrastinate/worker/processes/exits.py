"""What a job does to the event loop ends the job, and not the worker.

- asyncio lets SystemExit and KeyboardInterrupt out of a task or a callback through the loop, and every job on it ends.
  So a task that a job starts turns the two into :class:`~procrastinate.exceptions.TaskExit`. A loop that the worker has
  to itself goes on after a callback of a job has let one through.
- ``for task in asyncio.all_tasks(): task.cancel()`` in a job would cancel the worker and the other jobs. So asyncio
  does not list the tasks of the worker.
- A loop that the worker has to itself goes on after ``loop.stop()``, and after an exception that a signal handler
  raises. A job may set an alarm, which rings while something else runs.
- A task factory of the program may start tasks at once (``asyncio.eager_task_factory``). The tasks of the worker still
  start in the next turn of the loop, as its code relies on that.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import enum
import functools
import signal
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
    """Whose code runs."""

    PROGRAM = enum.auto()
    WORKER = enum.auto()
    JOB = enum.auto()


_place: contextvars.ContextVar[_Place] = contextvars.ContextVar("procrastinate_place", default=_Place.PROGRAM)


_loops: list[asyncio.AbstractEventLoop] = []
"""The loop of each worker that runs."""


def enter_job() -> None:
    """Mark the current context as that of a job: tasks that are created in it are contained."""
    _place.set(_Place.JOB)


@contextlib.contextmanager
def contained(loop: asyncio.AbstractEventLoop, worker_context: contextvars.Context) -> Iterator[None]:
    """Contain the tasks that jobs create on this loop, and hide those of the worker, until the end of the block.

    The task factory that the loop has makes the tasks, as before.

    Parameters
    ----------
    worker_context:
        The context that jobs are started in. It is marked as the worker's, and so is the current one for the block.
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
        if loop.get_task_factory() is factory:  # otherwise another has been set over this one, and calls it
            loop.set_task_factory(former)


def run(main: Coroutine[Any, Any, T], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """Run a coroutine on a loop of its own, as :func:`asyncio.run` does, and go on after what a job does to the loop.

    SystemExit ends it only if a signal handler has raised it. KeyboardInterrupt ends it once a stop signal has come, or
    if the worker does not handle signals.
    """
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        work = runner.get_loop().create_task(main)
        _hide(work)
        while True:
            try:
                runner.run(_end_of(work))
                return work.result()
            except BaseException as error:
                if work.done() or not _is_of_a_job(error, runner.get_loop()):
                    asyncio.tasks._register_task(work)  # the runner cancels what asyncio lists
                    raise
                message = "A job has ended a turn of the event loop (%r): the worker goes on"
                with contextlib.suppress(BaseException):  # a log handler that raises must not end the worker
                    logger.error(message, error, exc_info=error, extra={"action": "exit_contained"})


def ends_task(error: BaseException) -> bool:
    """Return whether an error is the cancellation of the current task.

    A cancellation of something else that the task awaits is not, nor is a CancelledError of the program's code.
    """
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


async def _end_of(work: asyncio.Task[Any]) -> None:
    """Wait until the work is done. Each cancellation, by Ctrl-C, cancels the work."""
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


def _is_of_a_job(error: BaseException, loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether something on the loop of a worker has ended its turn, and not the program nor a signal."""
    if loop not in _loops:
        return False
    if isinstance(error, SystemExit):
        return not _is_from_signal_handler(error.__traceback__)
    if isinstance(error, KeyboardInterrupt):
        return signals.are_handled()
    # The runner raises RuntimeError after loop.stop(). Any other exception is of a signal handler, for the loop catches
    # what callbacks raise. What the work itself raises does not come this way.
    return isinstance(error, Exception) and not loop.is_closed()


def _is_from_signal_handler(traceback: TracebackType | None) -> bool:
    codes = {_code(signal.getsignal(number)) for number in signal.valid_signals()}
    while traceback is not None:
        if traceback.tb_frame.f_code in codes:
            return True
        traceback = traceback.tb_next
    return False


def _code(handler: Any) -> CodeType | None:
    """Return the code of a signal handler that is written in Python."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not hasattr(handler, "__code__"):  # of methods, too
        handler = getattr(handler, "__call__", None)  # noqa: B004
    return getattr(handler, "__code__", None)


def _hide(task: asyncio.Task[Any]) -> None:
    asyncio.tasks._unregister_task(task)


def _containing(former: Factory | None, loop: asyncio.AbstractEventLoop) -> Factory:
    make: Factory = former or _make_task
    is_eager = former is not None and _starts_at_once(former, loop)

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        context: contextvars.Context | None = options.get("context")
        place = _place.get() if context is None else context.get(_place, _Place.PROGRAM)
        if place is _Place.JOB:
            return make(loop, _Contained(coroutine), **options)
        if place is _Place.PROGRAM:
            return make(loop, coroutine, **options)
        task = make(loop, _Later(coroutine) if is_eager else coroutine, **options)
        _hide(task)
        return task

    return factory


def _starts_at_once(make: Factory, loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a task factory runs the first lines of a coroutine before it returns the task."""
    has_started = False

    async def start() -> None:
        nonlocal has_started
        has_started = True

    make(loop, start())
    return has_started


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coroutine, loop=loop, **options)


class _Around(Coroutine[Any, Any, Any]):
    """A coroutine around another one.

    No ``async def`` around it: if the task is cancelled before it starts, that would not start either, and Python would
    warn of a coroutine that was never awaited.
    """

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def __getattr__(self, name: str) -> Any:
        """Return what asyncio shows of a coroutine: its name, code and frame."""
        return getattr(self._coroutine, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        """Return itself: a task factory of the program may await it in a coroutine of its own."""
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
    """A coroutine of which SystemExit and KeyboardInterrupt come as :class:`~procrastinate.exceptions.TaskExit`."""

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
    """A coroutine that starts in the next turn of the event loop, if its task starts at once."""

    __slots__ = ("_has_waited",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        super().__init__(coroutine)
        self._has_waited = False

    def send(self, value: Any) -> Any:
        if self._has_waited:
            return self._coroutine.send(value)
        self._has_waited = True
        return None  # a task takes it for a bare yield


def _exit_of(error: BaseException) -> exceptions.TaskExit:
    return exceptions.TaskExit(f"{error!r} was raised in an asyncio task that the job had started")
