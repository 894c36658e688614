"""Integrations that see what the workers of the process do, apart from the runs of jobs."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ParamSpec

from procrastinate.defer_hooks import Hooks, log_failure

if TYPE_CHECKING:
    from procrastinate.core import RescuedJob, WorkerReport

P = ParamSpec("P")

LONGEST_END = 7.0
"""Seconds that the end of a worker waits for its observers. Three exporters have two seconds each, more or less."""


@dataclasses.dataclass(kw_only=True, eq=False)
class ObservedWorker:
    """A worker under way. Observers append functions to its lists.

    Parameters
    ----------
    name:
        The name of the worker, if it has one.
    queues:
        The queues that it serves, or ``None`` for all.
    concurrency:
        The number of its slots.
    app_hooks:
        The hooks of its app, by which an integration of some apps knows its own.
    report:
        Returns what the worker does now. It may be called from any thread.
    on_fetch:
        Called in the event loop after each fetch, with its seconds and the number of jobs.
    on_rescue:
        Called in the event loop with each job that the worker has taken back from another one.
    on_settle:
        Called in the event loop after each record of outcomes, with its seconds and the number of jobs.
    on_end:
        Called in a thread when the worker has ended, because exporters may wait for the network. The worker waits for
        the functions, up to a limit.
    """

    name: str | None
    queues: tuple[str, ...] | None
    concurrency: int
    report: Callable[[], WorkerReport]
    app_hooks: Hooks
    on_fetch: list[Callable[[float, int], None]] = dataclasses.field(default_factory=list)
    on_rescue: list[Callable[[RescuedJob], None]] = dataclasses.field(default_factory=list)
    on_settle: list[Callable[[float, int], None]] = dataclasses.field(default_factory=list)
    on_end: list[Callable[[], None]] = dataclasses.field(default_factory=list)

    def start(self) -> None:
        """Tell the observers of the worker."""
        for observer in EVERYWHERE:
            _call_quietly(observer, self)

    def fetched(self, seconds: float, jobs: int) -> None:
        """Tell the observers of a fetch."""
        for tell in self.on_fetch:
            _call_quietly(tell, seconds, jobs)

    def rescued(self, job: RescuedJob) -> None:
        """Tell the observers of a job that was taken back."""
        for tell in self.on_rescue:
            _call_quietly(tell, job)

    def settled(self, seconds: float, jobs: int) -> None:
        """Tell the observers of recorded outcomes."""
        for tell in self.on_settle:
            _call_quietly(tell, seconds, jobs)

    async def end(self) -> None:
        """Tell the observers of the end, and wait for them at most :data:`LONGEST_END` seconds.

        The event loop goes on. It may be that of a web application.
        """
        loop, told = asyncio.get_running_loop(), asyncio.Event()

        def tell_all() -> None:
            for tell in self.on_end:
                _call_quietly(tell)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits
                loop.call_soon_threadsafe(told.set)

        if not self.on_end:
            return
        tell_in_context = functools.partial(contextvars.copy_context().run, tell_all)
        try:
            threading.Thread(target=tell_in_context, name="procrastinate-observers", daemon=True).start()
        except RuntimeError:  # the system refuses a thread
            tell_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_END):
                await told.wait()


EVERYWHERE: list[Callable[[ObservedWorker], None]] = []
"""Functions that are called with each worker of the process that starts."""


AROUND_STATEMENTS: list[Callable[[], contextlib.AbstractContextManager[None]]] = []
"""Functions that return a block to enter around each operation that workers run on their own connections."""


def around_statements() -> contextlib.AbstractContextManager[None]:
    """Return the block to enter around an operation: that of all integrations, or one that does nothing."""
    return _around_all() if AROUND_STATEMENTS else _AROUND_NOTHING


_AROUND_NOTHING = contextlib.nullcontext()


@contextlib.contextmanager
def _around_all() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for around in AROUND_STATEMENTS:
            stack.enter_context(around())
        yield


def _call_quietly(observer: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call an observer. An error or an exit of it is logged, and the worker goes on."""
    try:
        observer(*args, **kwargs)
    except BaseException:
        log_failure(observer)
