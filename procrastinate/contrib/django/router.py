"""Re-exports :mod:`procrastinate.adapters.django.router`."""

from __future__ import annotations

from procrastinate.adapters.django.router import ProcrastinateReadOnlyRouter

__all__ = ["ProcrastinateReadOnlyRouter"]
