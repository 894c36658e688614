"""Hands on :mod:`procrastinate.adapters.django.project_app`.

Tests of projects on 3.x assign ``current_app``: ``app`` uses the connector of that app then, until it is assigned back.
"""

from __future__ import annotations

import sys
from types import ModuleType

from procrastinate.adapters.django.project_app import app
from procrastinate.app import App
from procrastinate.connector import BaseConnector

__all__ = ["app", "current_app"]  # noqa: F822


class _ThisModule(ModuleType):
    """A module whose ``current_app`` can be assigned."""

    _assigned: App | None = None
    _own_connector: BaseConnector | None = None

    @property
    def current_app(self) -> App:
        """The app of the project, or the one that was assigned."""
        return self._assigned or app

    @current_app.setter
    def current_app(self, value: App) -> None:
        if self._own_connector is None:
            self._own_connector = app.connector
        if value is app:
            app.use_connector(self._own_connector)
            self._assigned = self._own_connector = None
        else:
            app.use_connector(value.connector)
            self._assigned = value

    @current_app.deleter
    def current_app(self) -> None:
        """Assign the app of the project again, as :mod:`unittest.mock` does it."""
        self.current_app = app


sys.modules[__name__].__class__ = _ThisModule
