"""URLs of the dashboard outside the admin."""

from __future__ import annotations

from django.urls import path, re_path

from procrastinate.adapters.django.dashboard.views import dashboard

app_name = "procrastinate_dashboard"
urlpatterns = [
    path("", dashboard, name="overview"),
    re_path(r"^(?P<path>.+)$", dashboard, name="page"),
]
