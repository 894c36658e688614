"""Re-exports :mod:`procrastinate.adapters.django.db_cleanup`."""

from __future__ import annotations

from procrastinate.adapters.django.db_cleanup import close_db_connections, close_db_connections_async

__all__ = ["close_db_connections", "close_db_connections_async"]
