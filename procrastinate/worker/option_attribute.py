"""The options of a worker as its attributes: programs written for 3.x read them, and set them before the run."""

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
"""How what a program sets becomes what is kept, of options that are more than checked."""
_READ |= dict.fromkeys(("task_middleware", "worker_middleware"), lambda value: tuple(value or ()))
_AT_ANY_TIME = frozenset(
    {"shutdown_graceful_timeout", "additional_context", "task_middleware", "worker_middleware", "store_errors"}
)
"""Options that each job, or the end of the worker, reads when it comes."""


class Option:
    """One option: read from the settings of the worker, and checked as they are when it is set.

    Parameters
    ----------
    name:
        The setting. The name of the attribute by default.
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
            The worker runs, and has read it already.
        TypeError, ValueError
            The option cannot have such a value.
        """
        if worker.has_started and self._name not in _AT_ANY_TIME:
            raise RuntimeError(f"Worker.{self._name} is set before the worker runs: it has been read")
        read = _READ.get(self._name)
        changes: dict[str, Any] = {self._name: read(value) if read else value}
        worker.use_settings(dataclasses.replace(worker.settings, **changes))
