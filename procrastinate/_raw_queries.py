"""User SQL on a connector's connections: the ``execute_query`` methods of 3.x."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from procrastinate import exceptions

_PLACEHOLDER = re.compile(r"%\((\w+)\)s|%%")

Row = dict[str, Any]


def execute(connection: sa.Connection, query: str, values: Mapping[str, Any]) -> None:
    """Execute a statement. Placeholders are ``%(name)s`` with every driver."""
    connection.execute(_statement(query, values))


def fetch_all(connection: sa.Connection, query: str, values: Mapping[str, Any]) -> list[Row]:
    """Execute a query, and return its rows."""
    return [dict(row) for row in connection.execute(_statement(query, values)).mappings()]


def fetch_one(connection: sa.Connection, query: str, values: Mapping[str, Any]) -> Row:
    """Execute a query, and return its first row.

    Raises
    ------
    NoResult
        The query returns no row.
    """
    row = connection.execute(_statement(query, values)).mappings().first()
    if row is None:
        raise exceptions.NoResult("The query has no result")
    return dict(row)


def _statement(query: str, values: Mapping[str, Any]) -> sa.TextClause:
    names: list[str] = []

    def to_bind(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        names.append(match[1])
        return f":{match[1]}"

    statement = sa.text(_PLACEHOLDER.sub(to_bind, query.replace(":", r"\:")))
    missing = [name for name in names if name not in values]
    if missing:
        raise exceptions.ConnectorException(f"The query has a placeholder %({missing[0]})s, but no such argument")
    # Without a type here, PostgreSQL infers the type of each parameter.
    binds = [sa.bindparam(name, values[name], type_=sa.types.NullType()) for name in dict.fromkeys(names)]
    return statement.bindparams(*binds)


class RawQueries:
    """Methods of a connector that execute a query with ``%(name)s`` placeholders.

    Dict arguments become JSON. Each row is a dict from column names to values.
    """

    if TYPE_CHECKING:
        json_dumps: Callable[[Any], str]
        run: Callable[..., Any]
        run_on: Callable[..., Any]
        run_async: Callable[..., Awaitable[Any]]
        run_on_async: Callable[..., Awaitable[Any]]

    def _values(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.json_dumps(value) if isinstance(value, dict) else value for name, value in arguments.items()}

    def execute_query(self, query: str, **arguments: Any) -> None:
        """Execute a statement."""
        self.run(execute, query, self._values(arguments))

    def execute_query_one(self, query: str, **arguments: Any) -> Row:
        """Execute a query, and return its first row.

        Raises
        ------
        NoResult
            The query returns no row.
        """
        row: Row = self.run(fetch_one, query, self._values(arguments))
        return row

    def execute_query_all(self, query: str, **arguments: Any) -> list[Row]:
        """Execute a query, and return its rows."""
        rows: list[Row] = self.run(fetch_all, query, self._values(arguments))
        return rows

    def execute_query_one_with_connection(self, connection: Any, query: str, **arguments: Any) -> Row:
        """Do the same as :meth:`execute_query_one`, on an open connection of the user."""
        row: Row = self.run_on(connection, fetch_one, query, self._values(arguments))
        return row

    def execute_query_all_with_connection(self, connection: Any, query: str, **arguments: Any) -> list[Row]:
        """Do the same as :meth:`execute_query_all`, on an open connection of the user."""
        rows: list[Row] = self.run_on(connection, fetch_all, query, self._values(arguments))
        return rows

    async def execute_query_async(self, query: str, **arguments: Any) -> None:
        """Asynchronous version of :meth:`execute_query`."""
        await self.run_async(execute, query, self._values(arguments))

    async def execute_query_one_async(self, query: str, **arguments: Any) -> Row:
        """Asynchronous version of :meth:`execute_query_one`."""
        row: Row = await self.run_async(fetch_one, query, self._values(arguments))
        return row

    async def execute_query_all_async(self, query: str, **arguments: Any) -> list[Row]:
        """Asynchronous version of :meth:`execute_query_all`."""
        rows: list[Row] = await self.run_async(fetch_all, query, self._values(arguments))
        return rows

    async def execute_query_one_async_with_connection(self, connection: Any, query: str, **arguments: Any) -> Row:
        """Asynchronous version of :meth:`execute_query_one_with_connection`."""
        row: Row = await self.run_on_async(connection, fetch_one, query, self._values(arguments))
        return row

    async def execute_query_all_async_with_connection(self, connection: Any, query: str, **arguments: Any) -> list[Row]:
        """Asynchronous version of :meth:`execute_query_all_with_connection`."""
        rows: list[Row] = await self.run_on_async(connection, fetch_all, query, self._values(arguments))
        return rows
