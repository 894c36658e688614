"""The asyncio task that runs a worker. Other threads and handlers of signals reach it here."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


class LoopTask:
    """A running worker's event loop and the task in it.

    Parameters
    ----------
    context:
        The context of the calls. A job may stop its worker, and its variables must not reach the end of the worker.
    """

    def __init__(self, context: contextvars.Context) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._context = context
        self._start_step: asyncio.Task[Any] | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the worker."""
        return self._loop

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, from any thread. Do nothing if the loop is closed."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, context=self._context.copy())

    def cancel_soon(self) -> None:
        """Cancel the worker, from any thread."""
        if self._task is not None:
            self.call_soon(self._task.cancel)

    async def take_step(self, step: Coroutine[Any, Any, R]) -> R:
        """Await a step of the start, which :meth:`cancel_step` cancels."""
        task: asyncio.Task[R] = asyncio.create_task(step)
        self._start_step = task
        return await task

    def cancel_step(self) -> None:
        """Cancel the last step of the start. Called in the loop."""
        if self._start_step is not None:
            self._start_step.cancel()
