"""Stand-ins for what a Celery project imports: see the page "From Celery" of the documentation."""

from __future__ import annotations

from procrastinate.from_celery.app import CeleryTasks, shared_task
from procrastinate.from_celery.canvas import chain, chord, chunks, group, maybe_signature, signature, xmap, xstarmap
from procrastinate.from_celery.exceptions import Ignore, MaxRetriesExceededError, NotSupported, Retry
from procrastinate.from_celery.results import AsyncResult
from procrastinate.from_celery.task import CeleryTask

__all__ = [
    "AsyncResult",
    "CeleryTask",
    "CeleryTasks",
    "Ignore",
    "MaxRetriesExceededError",
    "NotSupported",
    "Retry",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "shared_task",
    "signature",
    "xmap",
    "xstarmap",
]
