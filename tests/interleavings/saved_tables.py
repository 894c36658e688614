"""The tables of a scene, which each order of its acts finds as they were."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from procrastinate import core
from tests.conformance.runs import SyncRun

_TABLES = [table.name for table in core.metadata.sorted_tables]


class SavedTables:
    """Tables that are filled and saved once, and put back as often as needed.

    Parameters
    ----------
    set_up:
        Fills the tables.
    """

    def __init__(self, engine: sa.Engine, set_up: Callable[[SyncRun], None]) -> None:
        self._engine = engine
        self.run = SyncRun(engine)
        set_up(self.run)
        self._execute("; ".join(f"CREATE TABLE saved_{table} AS TABLE {table}" for table in _TABLES))

    def _execute(self, statements: str) -> None:
        with self._engine.begin() as connection:
            connection.exec_driver_sql(statements)

    def put_back(self) -> None:
        """Restore the tables, without the triggers."""
        copies = [f"INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE saved_{table}" for table in _TABLES]
        truncate = f"TRUNCATE {', '.join(_TABLES)}"
        self._execute("; ".join(["SET LOCAL session_replication_role = replica", truncate, *copies]))
