"""Re-exports :mod:`procrastinate.adapters.django.models`."""

from __future__ import annotations

from procrastinate.adapters.django.models import (
    ProcrastinateDependency,
    ProcrastinateError,
    ProcrastinateEvent,
    ProcrastinateJob,
    ProcrastinateLimit,
    ProcrastinateOperation,
    ProcrastinatePausedQueue,
    ProcrastinatePeriodicDefer,
    ProcrastinateResult,
    ProcrastinateStart,
    ProcrastinateUniqueKey,
    ProcrastinateWorker,
    ProcrastinateWorkflow,
)

__all__ = [
    "ProcrastinateDependency",
    "ProcrastinateError",
    "ProcrastinateEvent",
    "ProcrastinateJob",
    "ProcrastinateLimit",
    "ProcrastinateOperation",
    "ProcrastinatePausedQueue",
    "ProcrastinatePeriodicDefer",
    "ProcrastinateResult",
    "ProcrastinateStart",
    "ProcrastinateUniqueKey",
    "ProcrastinateWorker",
    "ProcrastinateWorkflow",
]
