"""Where Procrastinate 3.x had it. It is in :mod:`procrastinate`."""

from __future__ import annotations

from procrastinate.adapters.standalone import SyncPsycopgConnector

__all__ = ["SyncPsycopgConnector"]
