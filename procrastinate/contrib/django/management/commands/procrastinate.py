"""Re-exports :mod:`procrastinate.adapters.django.management.commands.procrastinate`."""

from __future__ import annotations

from procrastinate.adapters.django.management.commands.procrastinate import Command

__all__ = ["Command"]
