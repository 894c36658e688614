"""Procrastinate in a Django project: add ``"procrastinate.contrib.django"`` to ``INSTALLED_APPS``.

Jobs are deferred on Django's own connection and so belong to its open transaction.
"""

from __future__ import annotations

from procrastinate._extras import needs_extra

with needs_extra("The app for Django projects", "django"):
    import django as django

from procrastinate.adapters.django.conninfo import connector_params
from procrastinate.adapters.django.project_app import DjangoApp, app
from procrastinate.adapters.django.router import ProcrastinateReadOnlyRouter

__all__ = ["DjangoApp", "ProcrastinateReadOnlyRouter", "app", "connector_params"]
