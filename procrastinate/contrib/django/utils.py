"""Re-exports :mod:`procrastinate.adapters.django.conninfo`."""

from __future__ import annotations

from procrastinate.adapters.django.conninfo import connector_params

__all__ = ["connector_params"]
