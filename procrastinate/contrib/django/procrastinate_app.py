"""Re-exports :mod:`procrastinate.adapters.django.project_app`."""

from __future__ import annotations

from procrastinate.adapters.django.project_app import app

current_app = app

__all__ = ["app", "current_app"]
