"""Moves waiting rows of the package django-tasks-db into the queue."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any

from django.db import connections, router, transaction
from django.db.models import Count
from django.db.models.functions import Length

from procrastinate._job_checks import NAME_LENGTH
from procrastinate._quoting import quoted
from procrastinate.adapters.django.exceptions import NotImportable
from procrastinate.adapters.django.task_backend import aliases, framework, rows_of_tasks_db
from procrastinate.adapters.django.task_backend.backend import ProcrastinateBackend
from procrastinate.adapters.django.task_backend.task_results import declared_task
from procrastinate.core.errors import is_passing
from procrastinate.exceptions import ConnectorException, ProcrastinateException
from procrastinate.jobs import Job

_READY = framework.TaskResultStatus.READY
_RUNNING = framework.TaskResultStatus.RUNNING
_AT_ONCE = 9999
"""The year of ``run_after`` of a row that has no such time."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What rows are counted by: the path of their task, and their queue."""

    task_path: str
    queue_name: str


Counts = collections.Counter[Kind]


class WaitingRows:
    """The rows that wait, as far as this project's queue can take them.

    Raises
    ------
    NotImportable
        The package's app is not installed, ``TASKS`` has no backend of this queue, or the rows are in another database
        than the jobs.
    """

    def __init__(self) -> None:
        self._model = rows_of_tasks_db.find_model()
        if self._model is None:
            raise NotImportable(
                "The app django_tasks_db is not in INSTALLED_APPS: keep it there until its rows are moved"
            )
        if not any(_backends_of_queue()):
            raise NotImportable(
                "TASKS has no backend of this queue: write "
                "'BACKEND': 'procrastinate.contrib.django.tasks.ProcrastinateBackend' first"
            )
        self._database = router.db_for_write(self._model)
        self._backend = self._backend_of_database()
        self._backends = {alias: self._target(alias) for alias in self._aliases()}
        self._unfit: dict[Any, str] = {}

    def count(self) -> Counts:
        """Count the rows that :meth:`move` would take."""
        groups = self._movable().order_by().values("task_path", "queue_name").annotate(number=Count("pk"))
        return Counts({Kind(group["task_path"], group["queue_name"]): group["number"] for group in groups})

    def count_left(self) -> dict[str, int]:
        """Count the rows that wait and are left, by the reason."""
        waiting = self._waiting()
        too_long = waiting.annotate(length=Length("task_path")).filter(length__gt=NAME_LENGTH)
        elsewhere = waiting.filter(backend_name__in=self._names_elsewhere())
        unfit = collections.Counter(f"They cannot become jobs. {reason}" for reason in self._unfit.values())
        left = {
            f"The path of their task is longer than {NAME_LENGTH} characters": too_long.count(),
            f"TASKS gives their backend ({', '.join(self._names_elsewhere())}) to another class or database": (
                elsewhere.count()
            ),
        }
        return {reason: number for reason, number in (left | unfit).items() if number}

    def move(self, *, limit: int) -> Counts:
        """Make jobs of the next rows, in one transaction with the rows.

        Each row becomes one job, whatever ends the program. Rows that another transaction has locked are left out, and
        so are rows that cannot become jobs. :meth:`count_left` counts those afterwards.

        Parameters
        ----------
        limit:
            How many rows at most.

        Returns
        -------
        What was moved. It is empty if no row is left that can be locked.
        """
        with transaction.atomic(using=self._database):
            stored: list[tuple[Any, Job]] = []
            while not stored and (rows := list(self._movable().select_for_update(skip_locked=True)[:limit])):
                stored = self._store(rows)
            for row, job in stored:
                assert job.id is not None
                rows_of_tasks_db.mark_as_moved(row, job.id, _RUNNING)
            moved = [row for row, _ in stored]
            self._model.objects.using(self._database).bulk_update(moved, ["status", "worker_ids"])
        return Counts(Kind(row.task_path, row.queue_name) for row in moved)

    def _store(self, rows: list[Any]) -> list[tuple[Any, Job]]:
        """Store the jobs of rows. If they do not go together, halve them down to the rows that cannot become jobs."""
        try:
            with transaction.atomic(using=self._database):
                jobs = self._backend.job_manager.batch_defer_jobs([self._job(row) for row in rows])
        except Exception as error:
            if isinstance(error, ConnectorException) and is_passing(error):
                raise
            if len(rows) == 1:
                self._unfit[rows[0].pk] = _reason(error)
                return []
            middle = len(rows) // 2
            return self._store(rows[:middle]) + self._store(rows[middle:])
        return list(zip(rows, jobs, strict=True))

    def _waiting(self) -> Any:
        """Select in the order in which the package's worker takes them: the ids of the jobs follow it."""
        waiting = self._model.objects.using(self._database).filter(status=_READY)
        return waiting.order_by("-priority", "run_after", "enqueued_at")

    def _movable(self) -> Any:
        names = self._names_elsewhere()
        rows = self._waiting().annotate(length=Length("task_path")).filter(length__lte=NAME_LENGTH)
        if self._unfit:
            rows = rows.exclude(pk__in=list(self._unfit))
        return rows.exclude(backend_name__in=names) if names else rows

    def _aliases(self) -> set[str]:
        names = self._waiting().order_by().values_list("backend_name", flat=True).distinct()
        return {*names, *framework.task_backends.settings}

    def _names_elsewhere(self) -> list[str]:
        return sorted(alias for alias, backend in self._backends.items() if backend is None)

    def _target(self, alias: str) -> Any:
        """Return the backend that gets the rows of an alias; ``None`` if they stay where they are."""
        if alias not in framework.task_backends.settings:
            return self._backend  # as a worker finds a backend for a job whose alias is gone
        backend = framework.task_backends[alias]
        is_target = isinstance(backend, ProcrastinateBackend) and _database_of(backend) == self._database
        return backend if is_target else None

    def _backend_of_database(self) -> Any:
        if connections[self._database].vendor != "postgresql":
            raise NotImportable(
                f"The rows are in the database {self._database!r}, which is not PostgreSQL: let the workers of "
                "django-tasks-db finish them"
            )
        for backend in _backends_of_queue():
            if _database_of(backend) == self._database:
                return backend
        raise NotImportable(
            f"The rows are in the database {self._database!r} and the jobs are in another: one transaction cannot move "
            "them. Let the workers of django-tasks-db finish them"
        )

    def _job(self, row: Any) -> Job:
        backend = self._backends.get(row.backend_name) or self._backend
        arguments = aliases.as_stored(row.args_kwargs["args"], row.args_kwargs["kwargs"], backend.alias)
        return backend.job_of_row(  # type: ignore[no-any-return]
            row.task_path,
            declared_task(row.task_path),
            arguments,
            queue=row.queue_name,
            priority=row.priority,
            run_after=None if row.run_after.year >= _AT_ONCE else row.run_after,
        )


def _reason(error: Exception) -> str:
    """Return why a row cannot become a job. Some exceptions are understood only with their names."""
    is_plain = isinstance(error, ProcrastinateException)
    return quoted(str(error) if is_plain else f"{type(error).__name__}: {error}", 300)


def _backends_of_queue() -> Iterator[ProcrastinateBackend]:
    for alias in framework.task_backends.settings:
        backend = aliases.first_of_kind(ProcrastinateBackend, [alias])
        if backend is not None and backend.alias == alias:
            yield backend


def _database_of(backend: ProcrastinateBackend) -> str | None:
    return getattr(backend.job_manager.connector, "alias", None)
