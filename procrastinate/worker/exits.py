"""``sys.exit()`` in what a job has started on the event loop ends that, and not the worker.

asyncio lets SystemExit and KeyboardInterrupt out of a task or a callback through the loop, and every job on it ends. So
a task that a job starts turns the two into :class:`~procrastinate.exceptions.TaskExit`. A loop that the worker has to
itself goes on after a callback of a job has let one through.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, TypeAlias, TypeVar

from procrastinate import exceptions
from procrastinate.logs import get_logger
from procrastinate.worker import signals

logger = get_logger(__name__)

T = TypeVar("T")
Factory: TypeAlias = Callable[..., Any]

_in_job: contextvars.ContextVar[bool] = contextvars.ContextVar("procrastinate_in_job", default=False)


def enter_job() -> None:
    """Mark the current context as that of a job: tasks that are created in it are contained."""
    _in_job.set(True)


@contextlib.contextmanager
def contained(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Contain the tasks that jobs create on this loop, until the end of the block.

    The task factory that the loop has makes the tasks, as before.
    """
    former = loop.get_task_factory()
    factory = _containing(former)
    loop.set_task_factory(factory)
    try:
        yield
    finally:
        if loop.get_task_factory() is factory:  # otherwise another has been set over this one, and calls it
            loop.set_task_factory(former)


def run(main: Coroutine[Any, Any, T], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """Run a coroutine on a loop of its own, as :func:`asyncio.run` does, and go on after the exit of a callback.

    SystemExit and KeyboardInterrupt end it only once a stop signal has come, or if the worker does not handle signals:
    a handler of the program may then have raised them.
    """
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        work = runner.get_loop().create_task(main)
        while True:
            try:
                runner.run(_end_of(work))
                return work.result()
            except (SystemExit, KeyboardInterrupt) as error:
                if work.done() or not signals.are_handled():
                    raise
                message = "A callback on the event loop has raised %r: the worker goes on"
                logger.error(message, error, exc_info=error, extra={"action": "exit_contained"})


async def _end_of(work: asyncio.Task[Any]) -> None:
    """Wait until the work is done. A cancellation, by Ctrl-C, cancels the work."""
    try:
        await asyncio.wait([work])
    except asyncio.CancelledError:
        work.cancel()
        await asyncio.wait([work])
        raise


def _containing(former: Factory | None) -> Factory:
    make: Factory = former or _make_task

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        context: contextvars.Context | None = options.get("context")
        is_of_job = _in_job.get() if context is None else context.get(_in_job, False)
        return make(loop, _Contained(coroutine) if is_of_job else coroutine, **options)

    return factory


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coroutine, loop=loop, **options)


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine of which SystemExit and KeyboardInterrupt come as :class:`~procrastinate.exceptions.TaskExit`.

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
        return self._coroutine.__await__()

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

    def close(self) -> None:
        self._coroutine.close()


def _exit_of(error: BaseException) -> exceptions.TaskExit:
    return exceptions.TaskExit(f"{error!r} was raised in an asyncio task that the job had started")
