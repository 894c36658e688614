"""Connectors of Procrastinate 3.x that are aliases of today's connectors. They only translate arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from procrastinate.adapters.standalone.psycopg_connector import PsycopgConnector, SyncPsycopgConnector
from procrastinate.adapters.standalone.sqlalchemy_connector import SQLAlchemyConnector


class SQLAlchemyPsycopg2Connector(SQLAlchemyConnector):
    """A :class:`SQLAlchemyConnector` with psycopg2.

    Parameters
    ----------
    dsn:
        A SQLAlchemy URL.
    json_dumps, json_loads, engine_options:
        See :class:`SQLAlchemyConnector`.
    """

    def __init__(
        self,
        *,
        dsn: str = "postgresql+psycopg2://",
        json_dumps: Callable[[Any], str] | None = None,
        json_loads: Callable[[str], Any] | None = None,
        **engine_options: Any,
    ) -> None:
        super().__init__(dsn, json_dumps=json_dumps, json_loads=json_loads, **engine_options)


class Psycopg2Connector(SyncPsycopgConnector):
    """A :class:`SyncPsycopgConnector` with the arguments of ``psycopg2.pool.ThreadedConnectionPool``.

    It runs on psycopg 3 and does not need psycopg2.
    """

    def __init__(
        self,
        *,
        json_dumps: Callable[[Any], str] | None = None,
        json_loads: Callable[[str], Any] | None = None,
        minconn: int = 1,
        maxconn: int = 10,
        **arguments: Any,
    ) -> None:
        super().__init__(
            json_dumps=json_dumps, json_loads=json_loads, min_size=minconn, max_size=maxconn, **_libpq(arguments)
        )


class AiopgConnector(PsycopgConnector):
    """A :class:`PsycopgConnector` with the arguments of ``aiopg.create_pool``.

    It runs on psycopg 3 and does not need aiopg.
    """

    def __init__(
        self,
        *,
        json_dumps: Callable[[Any], str] | None = None,
        json_loads: Callable[[str], Any] | None = None,
        minsize: int = 1,
        maxsize: int = 10,
        **arguments: Any,
    ) -> None:
        super().__init__(
            json_dumps=json_dumps, json_loads=json_loads, min_size=minsize, max_size=maxsize, **_libpq(arguments)
        )


_NOT_LIBPQ = {"cursor_factory", "connection_factory", "enable_json", "enable_hstore", "enable_uuid", "echo"}


def _libpq(arguments: dict[str, Any]) -> dict[str, Any]:
    translated = {name: value for name, value in arguments.items() if name not in _NOT_LIBPQ}
    for before, now in (("dsn", "conninfo"), ("database", "dbname"), ("pool_recycle", "max_lifetime")):
        if before in translated:
            translated[now] = translated.pop(before)
    return translated
