"""The queue in a FastAPI or Starlette program."""

from __future__ import annotations

from procrastinate.adapters.standalone.fastapi import State, dashboard, get_app, lifespan

__all__ = ["State", "dashboard", "get_app", "lifespan"]
