"""The worker: fetch, run, record, and the services beside it."""

from __future__ import annotations

from procrastinate.worker.options import (
    ABORT_JOB_POLLING_INTERVAL,
    FETCH_JOB_POLLING_INTERVAL,
    WORKER_CONCURRENCY,
    WORKER_NAME,
    WorkerOptions,
)
from procrastinate.worker.worker import Worker

__all__ = [
    "ABORT_JOB_POLLING_INTERVAL",
    "FETCH_JOB_POLLING_INTERVAL",
    "WORKER_CONCURRENCY",
    "WORKER_NAME",
    "Worker",
    "WorkerOptions",
]
