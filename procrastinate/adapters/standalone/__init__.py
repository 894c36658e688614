"""Connectors for programs without Django: from a URL, an engine or psycopg's arguments.

:mod:`~procrastinate.adapters.standalone.flask` and :mod:`~procrastinate.adapters.standalone.fastapi` integrate an app
into those frameworks.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from procrastinate.adapters.standalone.psycopg_connector import PsycopgConnector, SyncPsycopgConnector
from procrastinate.adapters.standalone.sqlalchemy_connector import SQLAlchemyConnector
from procrastinate.connector import BaseConnector

__all__ = ["PsycopgConnector", "SQLAlchemyConnector", "SyncPsycopgConnector", "connector_for"]


def connector_for(value: Any) -> BaseConnector:
    """Return a connector for a database URL, an ``Engine`` or an ``AsyncEngine``.

    Raises
    ------
    TypeError
        The value is something else.
    """
    if isinstance(value, (str, sa.URL, sa.Engine)) or _is_async_engine(value):
        return SQLAlchemyConnector(value)
    raise TypeError(
        f"connector= takes a connector, a database URL, an Engine or an AsyncEngine, not {type(value).__name__}"
    )


def _is_async_engine(value: Any) -> bool:
    # This module loads the ORM, which a program that gives a URL may not need.
    from sqlalchemy.ext.asyncio import AsyncEngine

    return isinstance(value, AsyncEngine)
