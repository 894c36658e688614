"""The operation used in the emitted migrations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.management import CommandError
from django.db import migrations

from procrastinate import exceptions
from procrastinate.adapters.django.databases import connector_of
from procrastinate.alembic.revisions import current_revision, head_revision, refuse_conflicts
from procrastinate.alembic.settings import VERSION_TABLE


class RunPostgreSQL(migrations.RunSQL):
    """Runs SQL on the queue's PostgreSQL database and skips databases of other vendors.

    ``DATABASE_ROUTERS`` decides which of several PostgreSQL databases gets the tables.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Run the SQL, unless it conflicts with existing tables.

        Raises
        ------
        CommandError
            There is a conflict. The message explains it and says what to do.
        """
        if schema_editor.connection.vendor == "postgresql" and not schema_editor.collect_sql:
            self._refuse_conflicts(schema_editor.connection.alias)
        super().database_forwards(app_label, schema_editor, from_state, to_state)

    def _refuse_conflicts(self, alias: str) -> None:
        connector = connector_of(alias)
        try:
            connector.run(refuse_conflicts)
        except exceptions.SchemaConflict as error:
            raise CommandError(str(error)) from error
        current = connector.run(current_revision)
        if current is not None and self._is_first():
            raise CommandError(_tell_django(current))

    def _is_first(self) -> bool:
        return str(self.sql[0]).startswith(f"CREATE TABLE {VERSION_TABLE}")

    def _run_sql(self, schema_editor: Any, sqls: str | Sequence[str]) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super()._run_sql(schema_editor, sqls)  # type: ignore[misc]


def _tell_django(revision: str) -> str:
    """Return the error message. A revision's migration has its number plus 1000."""
    number = 1000 + int(revision.rpartition("_")[2])
    rest = "" if revision == head_revision() else ", and then migrate"
    return (
        f"The schema exists already, at revision {revision}, and Django does not know about it: `procrastinate "
        f"schema --apply` or Alembic created it. Tell Django: manage.py migrate procrastinate {number} --fake{rest}"
    )
