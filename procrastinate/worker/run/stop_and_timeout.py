"""What may end a run early: an abort request, the task's timeout, and the end of a worker that ends at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from procrastinate import exceptions
from procrastinate._durations import setting
from procrastinate.job_context import AbortReason
from procrastinate.tasks import Task


class Cancellation:
    """Ends one run early, or tells it to end.

    Attributes
    ----------
    requested:
        The reason of the first request to stop. The timeout is not among the requests.
    is_cut:
        True if the worker ends at once and has cancelled the run.
    executing:
        The asyncio task that executes the run. ``None`` before the start, and in a test that runs jobs itself.
    """

    def __init__(self) -> None:
        self.requested: AbortReason | None = None
        self.is_cut = False
        self.executing: asyncio.Task[Any] | None = None
        self._cancellable: asyncio.Task[Any] | None = None
        self._time_limit: asyncio.Timeout | None = None

    def reason(self) -> AbortReason | None:
        """Return why the run must stop, or ``None``. A request takes precedence over the timeout."""
        if self.requested is None and self._is_overtime:
            return AbortReason.TIMEOUT
        return self.requested

    @property
    def _is_overtime(self) -> bool:
        """True once the time is over, even before the cancellation reaches the task."""
        return self._time_limit is not None and self._time_limit.expired()

    def cancel_task(self) -> None:
        """Cancel the call of an async task, or the coroutine that a sync task has returned, if it runs now."""
        if self._cancellable is not None:
            self._cancellable.cancel()

    def cut(self) -> None:
        """Cancel the run at any point of it. A thread goes on."""
        self.is_cut = True
        if self.executing is not None:
            self.executing.cancel()

    def allow(self) -> None:
        """Let :meth:`cancel_task` cancel what the job awaits from now on.

        Raises
        ------
        asyncio.CancelledError
            A request came before.
        """
        if self.requested is not None:
            raise asyncio.CancelledError
        self._cancellable = self.executing or asyncio.current_task()

    def disallow(self) -> None:
        """Clear a cancellation that the task may have swallowed, so that it does not cancel the code that follows."""
        cancellable, self._cancellable = self._cancellable, None
        while cancellable is not None and cancellable.cancelling():
            cancellable.uncancel()

    async def call_within(
        self, task: Task[Any, Any, Any], seconds: float, call: Callable[[], Awaitable[Any]], is_left: Callable[[], bool]
    ) -> Any:
        """Await the call for ``seconds`` at most, as :func:`asyncio.timeout` does.

        Parameters
        ----------
        is_left:
            Return true if the thread of the call goes on.

        Raises
        ------
        TaskTimeout
            The call took longer, whatever the task did with its cancellation.
        """
        try:
            async with asyncio.timeout(seconds) as self._time_limit:
                return await call()
        finally:
            if self._is_overtime:
                raise exceptions.TaskTimeout(_message(task, seconds, is_left()))


def _message(task: Task[Any, Any, Any], timeout: float, is_left: bool) -> str:
    message = f"Task {task.name} took longer than its timeout of {setting(timeout)}"
    return f"{message}; its thread goes on and keeps its slot until it returns" if is_left else message
