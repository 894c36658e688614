"""The package that Django projects install in ``INSTALLED_APPS``. Re-exports :mod:`procrastinate.adapters.django`."""

from __future__ import annotations

from procrastinate.adapters.django import DjangoApp, ProcrastinateReadOnlyRouter, app, connector_params

__all__ = ["DjangoApp", "ProcrastinateReadOnlyRouter", "app", "connector_params"]
