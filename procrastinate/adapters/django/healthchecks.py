"""Checks that the project can defer jobs and run a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from procrastinate import exceptions
from procrastinate._text.terminal import ends_of, say
from procrastinate.adapters.django.settings import get_settings
from procrastinate.alembic.revisions import refuse_3x
from procrastinate.app import App
from procrastinate.connector import BaseConnector
from procrastinate.core.health import jobs_table_exists

_APP_LABEL = "procrastinate"


class UnhealthyError(exceptions.ProcrastinateException):
    """A health check failed."""


def healthchecks(app: App, write: Callable[[str], object] = say) -> None:
    """Check everything that a project needs and write a line per successful check.

    Raises
    ------
    UnhealthyError
        A check failed. The message says what to do.
    ConnectorException
        The database is unreachable.
    TablesOf3x
        The tables belong to Procrastinate 3.x.
    """
    has_tables = app.connector.run(jobs_table_exists)
    write("Database connection: OK")
    app.connector.run(refuse_3x)
    missing = _missing_migrations()
    if missing or not has_tables:
        alias = get_settings().DATABASE_ALIAS
        raise UnhealthyError(f"Migrations: {_described(missing)}. Run: manage.py migrate --database={alias}")
    app.schema_manager.check_schema()
    write("Migrations: OK")
    if not app.check_connection():
        raise UnhealthyError("Default Django Procrastinate App: its database has no tables")
    write("Default Django Procrastinate App: OK")
    if not asyncio.run(_check_worker(app.connector.get_worker_connector())):
        raise UnhealthyError("Worker App: its database has no tables")
    write("Worker App: OK")


def _described(missing: Sequence[str]) -> str:
    """Return what is not applied."""
    return f"{len(missing)} not applied ({ends_of(missing)})" if missing else "the tables are missing"


def _missing_migrations() -> list[str]:
    settings = get_settings()
    if settings.CREATE_CONNECTOR is not None:  # that connector's tables may be anywhere
        return []
    executor = MigrationExecutor(connections[settings.DATABASE_ALIAS])
    targets = [node for node in executor.loader.graph.leaf_nodes() if node[0] == _APP_LABEL]
    return [migration.name for migration, _ in executor.migration_plan(targets)]


async def _check_worker(connector: BaseConnector) -> bool:
    await connector.open_async()
    try:
        return await connector.run_async(jobs_table_exists)
    finally:
        await connector.close_async()
