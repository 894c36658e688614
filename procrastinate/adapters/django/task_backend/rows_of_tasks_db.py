"""The table of the package django-tasks-db: where it is, and which of its rows are jobs of this queue now.

A row that is moved stays, so that its id still leads to a result. It looks like a row that a worker runs. So neither
the package's worker nor its pruning touches it, and a program that still uses the package does not take it for failed.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError

APP_LABEL = "django_tasks_database"
_MOVED = "procrastinate-job-"
"""Stands in ``worker_ids`` of a moved row, followed by the id of its job."""
_SHORTEST_UUID = 32
"""Characters. The id of a job has at most 19."""


def find_model() -> Any:
    """Return the model of the rows; ``None`` if its app is not installed."""
    try:
        return apps.get_model(APP_LABEL, "DBTaskResult")
    except LookupError:
        return None


@dataclasses.dataclass(frozen=True)
class Found:
    """Where an id of a result leads: to the job of ``result_id``, or to ``result``, which the package has kept."""

    result_id: Any
    result: Any = None


def follow(result_id: Any) -> Found:
    """Follow the id of a result, as a program has kept it. It may be any value.

    An id of this queue costs no query.
    """
    row = _find_row(result_id) if len(str(result_id)) >= _SHORTEST_UUID else None
    if row is None:
        return Found(result_id)
    job_id = job_of(row)
    return Found(result_id, row.task_result) if job_id is None else Found(str(job_id))


def _find_row(result_id: Any) -> Any:
    model = find_model()
    if model is None:
        return None
    try:
        return model.objects.filter(pk=result_id).first()
    except (ValidationError, ValueError, TypeError):  # not a UUID
        return None


def mark_as_moved(row: Any, job_id: int, running: str) -> None:
    """Change a row, in memory, to one that is moved.

    Parameters
    ----------
    running:
        The status of a task that runs, as the framework writes it.
    """
    row.status = running
    row.worker_ids = [f"{_MOVED}{job_id}"]


def job_of(row: Any) -> int | None:
    """Return the id of the job that a row has become; ``None`` if it was not moved."""
    for worker_id in row.worker_ids:
        if isinstance(worker_id, str) and worker_id.startswith(_MOVED):
            return int(worker_id.removeprefix(_MOVED))
    return None
