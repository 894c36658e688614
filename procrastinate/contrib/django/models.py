"""Re-exports :mod:`procrastinate.adapters.django.models`."""

from __future__ import annotations

from procrastinate.adapters.django.models import (
    ProcrastinateError,
    ProcrastinateEvent,
    ProcrastinateJob,
    ProcrastinatePeriodicDefer,
    ProcrastinateResult,
    ProcrastinateWorker,
)

__all__ = [
    "ProcrastinateError",
    "ProcrastinateEvent",
    "ProcrastinateJob",
    "ProcrastinatePeriodicDefer",
    "ProcrastinateResult",
    "ProcrastinateWorker",
]
