"""The operation that the emitted migrations are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import migrations


class RunPostgreSQL(migrations.RunSQL):
    """SQL for the database of the queue. A database of another make that is migrated too is passed over.

    Which of several PostgreSQL databases gets the tables is for ``DATABASE_ROUTERS`` to say.
    """

    def _run_sql(self, schema_editor: Any, sqls: str | Sequence[str]) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super()._run_sql(schema_editor, sqls)  # type: ignore[misc]
