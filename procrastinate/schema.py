"""The schema: apply it, print it, and keep it apart from the user's own migrations."""

from __future__ import annotations

import pathlib
from typing import Any

from procrastinate import exceptions
from procrastinate.alembic import runner
from procrastinate.alembic.settings import VERSION_TABLE, VERSIONS_LOCATION
from procrastinate.connector import BaseConnector
from procrastinate.core.tables import metadata


class SchemaManager:
    """Applies the schema on an app's connector: ``app.schema_manager``."""

    def __init__(self, connector: BaseConnector) -> None:
        self.connector = connector

    @staticmethod
    def get_schema() -> str:
        """The SQL script that brings an empty database to the newest schema.

        It neither begins nor commits: execute it in a transaction, which may be one of your own migrations.
        """
        return runner.upgrade_sql(transactional=False)

    @staticmethod
    def get_migrations_path() -> str:
        """The folder of the Alembic revisions: one for ``version_locations`` in a configuration of your own."""
        return str(pathlib.Path(VERSIONS_LOCATION))

    def apply_schema(self) -> None:
        """Bring the database to the newest schema: from nothing, or from any older revision.

        Safe to repeat, and when several processes do it at once.
        """
        self.connector.get_sync_connector().run(runner.upgrade)

    async def apply_schema_async(self) -> None:
        """As :meth:`apply_schema`."""
        await self.connector.run_async(runner.upgrade)

    def check_schema(self) -> None:
        """Check that the schema is not older than this release needs.

        A database without a version, whose tables were made by other means (Django's ``migrate``, a script), passes.

        Raises
        ------
        SchemaNotApplied
            It is older.
        """
        current = self.connector.get_sync_connector().run(runner.current_revision)
        if current is not None and current in runner.older_revisions():
            raise exceptions.SchemaNotApplied(
                f"The schema is at revision {current}, and this release needs {runner.head_revision()}: "
                "run `procrastinate schema --apply`"
            )


def include_object(object_: Any, name: str | None, type_: str, reflected: bool, compare_to: Any | None) -> bool:
    """Alembic's ``include_object`` hook that leaves this project's tables and indexes out of your autogenerate.

    In your ``env.py``::

        context.configure(..., include_object=procrastinate.schema.include_object)

    Where you have a hook already, call this one from it.
    """
    table = object_ if type_ == "table" else getattr(object_, "table", None)
    table_name = name if table is None else table.name
    return table_name not in _OWN_TABLES


_OWN_TABLES = {table.name for table in metadata.tables.values()} | {VERSION_TABLE}
