"""Re-exports :mod:`procrastinate.adapters.django.connector`."""

from __future__ import annotations

from procrastinate.adapters.django.connector import DjangoConnector

__all__ = ["DjangoConnector"]
