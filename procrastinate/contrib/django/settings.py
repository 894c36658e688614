"""Re-exports :mod:`procrastinate.adapters.django.settings`."""

from __future__ import annotations

from procrastinate.adapters.django.settings import Settings, settings

__all__ = ["Settings", "settings"]
