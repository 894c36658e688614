"""A call of a task with its arguments, to become a step of a workflow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from procrastinate._deferrer import JobDeferrer

R_co = TypeVar("R_co", covariant=True)


@dataclasses.dataclass(frozen=True)
class Call(Generic[R_co]):
    """A task and its arguments. ``task.call(...)`` and ``task.configure(...).call(...)`` make it; nothing is stored.

    Attributes
    ----------
    deferrer:
        The options of the job.
    arguments:
        The keyword arguments. Results of other steps are among them as references.
    stores_result:
        Whether the task keeps its return value. ``None`` if the task is known by its name only.
    """

    deferrer: JobDeferrer
    arguments: Mapping[str, Any]
    stores_result: bool | None = None

    @property
    def task_name(self) -> str:
        """The name of the task."""
        return self.deferrer.job.task_name
