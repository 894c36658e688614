"""Time limit of a task's run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from procrastinate import exceptions
from procrastinate.tasks import Task


class TimeLimit:
    """Time limit that cancels the call of a task after its timeout, like :func:`asyncio.timeout`."""

    def __init__(self) -> None:
        self._scope: asyncio.Timeout | None = None

    @property
    def is_exceeded(self) -> bool:
        """True once the time is over, even before the cancellation reaches the task."""
        return self._scope is not None and self._scope.expired()

    async def call(self, task: Task[Any, Any, Any], seconds: float, call: Callable[[], Awaitable[Any]]) -> Any:
        """Await the call for ``seconds`` at most.

        Raises
        ------
        TaskTimeout
            The call took longer, whatever the task did with its cancellation.
        """
        try:
            async with asyncio.timeout(seconds) as self._scope:
                return await call()
        finally:
            if self.is_exceeded:
                raise exceptions.TaskTimeout(_message(task, seconds))


def _message(task: Task[Any, Any, Any], timeout: float) -> str:
    message = f"Task {task.name} took longer than its timeout of {timeout:g} s"
    return message if task.is_async else f"{message}; its thread goes on and keeps its slot until it returns"
