"""The import path that Django projects have in ``INSTALLED_APPS``. It hands on :mod:`procrastinate.adapters.django`."""

from __future__ import annotations

from procrastinate.adapters.django import DjangoApp, ProcrastinateReadOnlyRouter, app, connector_params

__all__ = ["DjangoApp", "ProcrastinateReadOnlyRouter", "app", "connector_params"]
