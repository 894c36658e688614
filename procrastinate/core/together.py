"""Statements that take one round trip and one commit together, if the connection can do that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa


class Call(NamedTuple):
    """A statement and its parameters."""

    statement: sa.Executable
    parameters: Mapping[str, Any]


def execute_together(connection: sa.Connection, calls: Sequence[Call]) -> list[sa.Result[Any]] | None:
    """Run statements in one transaction of their own, with one round trip, and return the rows of each.

    Later statements see what earlier ones have changed. If one fails, all are undone.

    Returns
    -------
    ``None`` if the connection cannot do that. No statement has run then.
    """
    execute = getattr(connection, "execute_together", None)
    results: list[sa.Result[Any]] | None = None if execute is None else execute(calls)
    return results
