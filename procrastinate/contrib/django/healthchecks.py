"""Re-exports :mod:`procrastinate.adapters.django.healthchecks`."""

from __future__ import annotations

from procrastinate.adapters.django.healthchecks import healthchecks

__all__ = ["healthchecks"]
