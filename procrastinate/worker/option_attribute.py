"""Options of a worker as attributes. Programs written for 3.x read them, and set them before the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from procrastinate.worker import worker_settings

if TYPE_CHECKING:
    from procrastinate.worker.worker import Worker

_READ: dict[str, Callable[[Any], Any]] = {
    "queues": worker_settings.read_queues,
    "delete_jobs": worker_settings.read_delete_jobs,
}
"""Functions that convert the value of an option. Options that are only checked have none."""
_READ |= dict.fromkeys(("task_middleware", "worker_middleware"), lambda value: tuple(value or ()))
_AT_ANY_TIME = frozenset(
    {"shutdown_graceful_timeout", "additional_context", "task_middleware", "worker_middleware", "store_errors"}
)
"""Options that may change during the run, because each job or the shutdown reads them."""


class Option:
    """One option, read from the settings of the worker. A new value passes the checks of the settings.

    Parameters
    ----------
    name:
        The name of the setting. The default is the name of the attribute.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name

    def __set_name__(self, owner: type[Worker], name: str) -> None:
        self._name = self._name or name

    def __get__(self, worker: Worker | None, owner: type[Worker]) -> Any:
        return self if worker is None else getattr(worker.settings, self._name)

    def __set__(self, worker: Worker, value: Any) -> None:
        """Change the setting.

        Raises
        ------
        RuntimeError
            The worker has started and has read the option already.
        TypeError, ValueError
            The value is invalid.
        """
        if worker.has_started and self._name not in _AT_ANY_TIME:
            raise RuntimeError(f"Worker.{self._name} cannot be set after the start of the worker")
        read = _READ.get(self._name)
        changes: dict[str, Any] = {self._name: read(value) if read else value}
        worker.use_settings(dataclasses.replace(worker.settings, **changes))
