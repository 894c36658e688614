"""Connectors for programs without Django: from a URL, an engine or psycopg's arguments.

:mod:`~procrastinate.adapters.standalone.flask` and :mod:`~procrastinate.adapters.standalone.fastapi` integrate an app
into those frameworks.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from procrastinate.adapters.standalone.psycopg_connector import PsycopgConnector, SyncPsycopgConnector
from procrastinate.adapters.standalone.sqlalchemy_connector import SQLAlchemyConnector
from procrastinate.connector import as_connector

__all__ = ["PsycopgConnector", "SQLAlchemyConnector", "SyncPsycopgConnector"]

for _type in (str, sa.URL, sa.Engine, AsyncEngine):
    as_connector.register(_type, SQLAlchemyConnector)
