"""Re-exports :mod:`procrastinate.adapters.django.connection_params`."""

from __future__ import annotations

from procrastinate.adapters.django.connection_params import connector_params

__all__ = ["connector_params"]
