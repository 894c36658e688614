"""Re-exports :mod:`procrastinate.adapters.django.admin`."""

from __future__ import annotations

from procrastinate.adapters.django.admin import ProcrastinateJobAdmin

__all__ = ["ProcrastinateJobAdmin"]
