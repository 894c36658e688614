"""URLs of the dashboard: ``path("queue/", include("procrastinate.contrib.django.dashboard.urls"))``."""

from __future__ import annotations

from procrastinate.adapters.django.dashboard.urls import app_name, urlpatterns

__all__ = ["app_name", "urlpatterns"]
