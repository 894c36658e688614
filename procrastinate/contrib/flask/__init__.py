"""The queue in a Flask program."""

from __future__ import annotations

from procrastinate.adapters.standalone.flask import app_context, dashboard, get_app, init_app

__all__ = ["app_context", "dashboard", "get_app", "init_app"]
