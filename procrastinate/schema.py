"""The schema: apply it, print it, and keep it apart from the user's own migrations."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from procrastinate import core, exceptions
from procrastinate._text.logs import get_logger
from procrastinate.alembic import revisions, upgrades
from procrastinate.alembic.settings import VERSION_TABLE, VERSIONS_LOCATION
from procrastinate.connector import BaseConnector
from procrastinate.core.tables import metadata

logger = get_logger(__name__)


class SchemaManager:
    """Applies the schema on an app's connector: ``app.schema_manager``."""

    def __init__(self, connector: BaseConnector) -> None:
        self.connector = connector

    @staticmethod
    def get_schema() -> str:
        """The SQL script that brings an empty database to the newest schema.

        It neither begins nor commits: execute it in a transaction, which may be one of your own migrations.
        """
        return upgrades.upgrade_sql(transactional=False)

    @staticmethod
    def get_migrations_path() -> str:
        """The folder of the Alembic revisions: one for ``version_locations`` in a configuration of your own."""
        return str(pathlib.Path(VERSIONS_LOCATION))

    def apply_schema(self) -> None:
        """Bring the database to the newest schema: from nothing, or from any older revision.

        Safe to repeat, and when several processes do it at once.

        Raises
        ------
        SchemaConflict
            A newer release has applied its schema already, or there are tables without a revision.
        """
        self.connector.get_sync_connector().run(upgrades.upgrade)

    async def apply_schema_async(self) -> None:
        """As :meth:`apply_schema`."""
        await self.connector.run_async(upgrades.upgrade)

    def check_schema(self) -> None:
        """Check that the schema is not older than this release needs. Of a newer one, a warning is logged.

        A database that has no revision, whose tables were made by other means than this project's, passes where the
        tables have all columns.

        Raises
        ------
        SchemaNotApplied
            It is older, or not there.
        TablesOf3x
            The tables are those of Procrastinate 3.x.
        UnfitSettings
            The role or the database has a setting with which no worker can do its work.
        """
        connector = self.connector.get_sync_connector()
        _compare(connector.run(revisions.fit_revision))
        _refuse_settings(connector.run(core.list_unfit_settings))

    async def check_schema_async(self) -> None:
        """As :meth:`check_schema`."""
        _compare(await self.connector.run_async(revisions.fit_revision))
        _refuse_settings(await self.connector.run_async(core.list_unfit_settings))


def _compare(current: str | None) -> None:
    """While a new release is rolled out, its schema is there first, and workers of the old release go on."""
    known = revisions.known_revisions()
    if current in known[:-1]:
        raise exceptions.SchemaNotApplied(
            f"The schema is at revision {current}, and this release needs {known[-1]}: "
            "run `procrastinate schema --apply` (or `manage.py migrate` in Django)"
        )
    if current is not None and current != known[-1]:
        logger.warning(
            "The schema is at revision %s, which this release does not know: a newer release has applied it",
            current,
            extra={"action": "schema_is_newer", "revision": current, "known": known[-1]},
        )


def _refuse_settings(unfit: Sequence[str]) -> None:
    if unfit:
        names = ", ".join(setting.partition(" ")[0] for setting in unfit)
        raise exceptions.UnfitSettings(
            f"No worker can do its work with {', '.join(unfit)}, which the role or the database has: "
            f"set it otherwise for the workers' role (ALTER ROLE ... RESET {names}, or SET it to its default)"
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
