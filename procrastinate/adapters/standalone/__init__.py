"""Connectors for programs without Django: from a URL, an engine or psycopg's arguments.

:mod:`~procrastinate.adapters.standalone.flask` and :mod:`~procrastinate.adapters.standalone.fastapi` integrate an app
into those frameworks.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from procrastinate.adapters.standalone.psycopg_connector import PsycopgConnector, SyncPsycopgConnector
from procrastinate.adapters.standalone.sqlalchemy_connector import SQLAlchemyConnector
from procrastinate.connector import BaseConnector, as_connector

__all__ = ["PsycopgConnector", "SQLAlchemyConnector", "SyncPsycopgConnector"]

for _type in (str, sa.URL, sa.Engine):
    as_connector.register(_type, SQLAlchemyConnector)

_refuse = as_connector.dispatch(object)


@as_connector.register(object)
def _async_engine_connector(value: Any) -> BaseConnector:
    """Take an ``AsyncEngine``, whose module loads the ORM. A program that gives a URL may not need that."""
    from sqlalchemy.ext.asyncio import AsyncEngine

    return SQLAlchemyConnector(value) if isinstance(value, AsyncEngine) else _refuse(value)
