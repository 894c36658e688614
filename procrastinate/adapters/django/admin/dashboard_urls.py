"""The URLs of the dashboard inside the admin of jobs."""

from __future__ import annotations

import importlib.util
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import re_path


def has_dashboard() -> bool:
    """Return whether the extra ``dashboard`` is installed."""
    return importlib.util.find_spec("jinja2") is not None


def dashboard_urls(model_admin: Any) -> list[Any]:
    """Return the URLs of the dashboard. They need no name, because its addresses are relative."""
    if not has_dashboard():
        return []
    from procrastinate.adapters.django.dashboard.views import dashboard_in_admin

    def show(request: HttpRequest, path: str) -> HttpResponse:
        return dashboard_in_admin(request, path, model_admin=model_admin)

    return [re_path(r"^dashboard/(?P<path>.*)$", model_admin.admin_site.admin_view(show, cacheable=True))]
