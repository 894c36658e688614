"""Re-exports :mod:`procrastinate.adapters.django.exceptions`."""

from __future__ import annotations

from procrastinate.adapters.django.exceptions import BrokenTransaction, DjangoNotReady, ReadOnlyModel

__all__ = ["BrokenTransaction", "DjangoNotReady", "ReadOnlyModel"]
