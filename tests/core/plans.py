"""The plan that PostgreSQL makes for the statements of an operation, exactly as the operation sends them."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from psycopg import sql

P = ParamSpec("P")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of one statement, as it was run."""

    tree: dict[str, Any]

    def nodes(self) -> Iterator[dict[str, Any]]:
        """All nodes, from the top."""
        waiting = [self.tree]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.get("Plans", [])

    @property
    def indexes(self) -> set[str]:
        """The names of the indexes that it reads."""
        return {node["Index Name"] for node in self.nodes() if "Index Name" in node}

    @property
    def scanned_tables(self) -> set[str]:
        """The tables that it reads from end to end."""
        return {node["Relation Name"] for node in self.nodes() if node["Node Type"] == "Seq Scan"}

    @property
    def buffers(self) -> int:
        """How many pages it touched."""
        return sum(self.tree.get(f"Shared {kind} Blocks", 0) for kind in ("Hit", "Read"))

    @property
    def rows_thrown_away(self) -> int:
        """How many rows of tables it read and did not need."""
        return int(
            sum(
                node.get("Rows Removed by Filter", 0) * node["Actual Loops"]
                + node.get("Rows Removed by Index Recheck", 0) * node["Actual Loops"]
                for node in self.nodes()
                if "Relation Name" in node
            )
        )


def explain(
    connection: sa.Connection,
    operation: Callable[Concatenate[sa.Connection, P], R],
    *args: P.args,
    **kwargs: P.kwargs,
) -> list[Plan]:
    """The plans of an operation's statements. Nothing of what they do remains.

    They see the rows that the transaction of the test has written. These are rolled back, too.
    """
    with recorded(connection) as statements:
        before = connection.begin_nested()
        operation(connection, *args, **kwargs)
        before.rollback()
    with connection.begin_nested() as again:
        plans = [_explain(connection, statement, parameters) for statement, parameters in statements]
        again.rollback()
    connection.rollback()
    return plans


@contextlib.contextmanager
def recorded(connection: sa.Connection) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    statements: list[tuple[str, dict[str, Any]]] = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "SAVEPOINT" not in statement:  # it has no plan
            statements.append((statement, parameters))

    sa.event.listen(connection, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        sa.event.remove(connection, "before_cursor_execute", record)


def _explain(connection: sa.Connection, statement: str, parameters: dict[str, Any]) -> Plan:
    """Through PREPARE, so that ``plan_cache_mode`` decides whether the plan knows the values."""
    with _cursor(connection) as cursor:
        names = _prepare(cursor, "explained", statement, parameters)
        plan = _explain_prepared(cursor, "explained", [parameters[name] for name in names])
        cursor.execute("DEALLOCATE explained")
    return plan


def _cursor(connection: sa.Connection) -> Any:
    driver = connection.connection.driver_connection
    assert driver is not None
    return driver.cursor()


def _prepare(cursor: Any, name: str, statement: str, parameters: dict[str, Any]) -> list[str]:
    """Prepare a statement, and return the names of its parameters in their order."""
    names: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    numbered_statement = re.sub(r"%\((\w+)\)s|%%", numbered, statement)
    types = _list(_type_name(parameters[name]) for name in names)
    cursor.execute(f"PREPARE {name}{types} AS {numbered_statement}")
    return names


def _explain_prepared(cursor: Any, name: str, given: Iterable[Any]) -> Plan:
    values = _list(sql.Literal(value).as_string(cursor) for value in given)
    cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {name}{values}")
    ((document,),) = cursor.fetchall()
    return Plan(document[0]["Plan"])


class KeptPlans:
    """Statements that are prepared now and explained later, with the plan that was made at first.

    Parameters
    ----------
    connection:
        Plans are kept in its session. What is explained is rolled back.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._names: dict[str, tuple[str, list[str]]] = {}

    def make(
        self,
        operation: Callable[Concatenate[sa.Connection, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Prepare the statements of an operation and make their plans, on the tables as they are."""
        for statement, parameters in self._statements(operation, *args, **kwargs):
            with _cursor(self._connection) as cursor:
                name = f"kept_{len(self._names)}"
                names = _prepare(cursor, name, statement, parameters)
                self._names[statement] = name, names
                _explain_prepared(cursor, name, [parameters[name] for name in names])
        self._connection.rollback()

    def explain(
        self,
        operation: Callable[Concatenate[sa.Connection, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> list[Plan]:
        """Return the kept plans of an operation's statements, as they run now."""
        plans = []
        for statement, parameters in self._statements(operation, *args, **kwargs):
            name, names = self._names[statement]
            with _cursor(self._connection) as cursor:
                plans.append(_explain_prepared(cursor, name, [parameters[name] for name in names]))
        self._connection.rollback()
        return plans

    def _statements(
        self,
        operation: Callable[Concatenate[sa.Connection, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> list[tuple[str, dict[str, Any]]]:
        with recorded(self._connection) as statements:
            operation(self._connection, *args, **kwargs)
        self._connection.rollback()
        return statements


def _list(items: Iterable[str]) -> str:
    text = ", ".join(items)
    return f" ({text})" if text else ""


def _type_name(value: Any) -> str:
    """As the driver does, leave the type to PostgreSQL, which would take an interval for a time."""
    return "interval" if isinstance(value, datetime.timedelta) else "unknown"
