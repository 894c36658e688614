"""Hands on :mod:`procrastinate.adapters.django.models`."""

from __future__ import annotations

from procrastinate.adapters.django.models import (
    ProcrastinateEvent,
    ProcrastinateJob,
    ProcrastinatePeriodicDefer,
    ProcrastinateWorker,
)

__all__ = ["ProcrastinateEvent", "ProcrastinateJob", "ProcrastinatePeriodicDefer", "ProcrastinateWorker"]
