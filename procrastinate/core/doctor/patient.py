"""What the checks of the doctor share: the connection, what the program knows, and facts that are read once."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Callable, Iterable
from typing import TypeAlias

import sqlalchemy as sa

from procrastinate.core.doctor.findings import DoctorLimits, Finding
from procrastinate.core.inspection import facts
from procrastinate.core.inspection.facts import WorkerFacts
from procrastinate.core.inspection.queues import load_queues
from procrastinate.core.inspection.records import Queues


@dataclasses.dataclass
class Patient:
    """The installation, as this program sees it.

    Parameters
    ----------
    revisions:
        The revisions of the schema that this program knows, oldest first. Empty to leave out their checks.
    queues:
        The queues that tasks of this program name.
    loaded_queues:
        The jobs of each queue, if the program has just read them.
    """

    connection: sa.Connection
    now: datetime.datetime
    revisions: tuple[str, ...]
    queues: frozenset[str]
    limits: DoctorLimits
    loaded_queues: Queues | None = None

    @functools.cached_property
    def workers(self) -> tuple[WorkerFacts, ...]:
        """All registered workers."""
        return facts.read_workers(self.connection)

    @functools.cached_property
    def jobs_of_queues(self) -> Queues:
        """The jobs of each queue."""
        return self.loaded_queues or load_queues(self.connection, self.queues)

    @functools.cached_property
    def _lists_of_tasks(self) -> dict[str, frozenset[str]]:
        return facts.read_task_lists(self.connection, self.alive)

    def know_task(self, queue: str, task_name: str) -> bool:
        """Return true if a live worker of the queue knows the task or does not say, or if the queue has no worker."""
        serving = [one for one in self.alive if one.serves(queue)]
        return facts.workers_know_task(self._lists_of_tasks, serving, task_name)

    @property
    def alive(self) -> list[WorkerFacts]:
        """The workers that are not silent."""
        return [worker for worker in self.workers if worker.is_alive]


Check: TypeAlias = Callable[[Patient], Iterable[Finding]]
