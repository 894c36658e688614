"""Former module of :class:`procrastinate.SyncPsycopgConnector` in 3.x."""

from __future__ import annotations

from procrastinate.adapters.standalone import SyncPsycopgConnector

__all__ = ["SyncPsycopgConnector"]
