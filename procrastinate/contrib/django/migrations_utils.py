"""What migrations that were copied from 3.x are made of. The schema is made by the first migrations of this release."""

from __future__ import annotations

import importlib.resources

from django.db import migrations

__all__ = ["RunProcrastinateSQL"]


class RunProcrastinateSQL(migrations.RunSQL):
    """A migration file of 3.x, which does nothing here.

    Parameters
    ----------
    name:
        The name of the file.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        file = importlib.resources.files("procrastinate.sql.migrations").joinpath(name)
        super().__init__(sql=file.read_text(), reverse_sql=migrations.RunSQL.noop)

    def deconstruct(self) -> tuple[str, list[object], dict[str, object]]:
        """Return what writes this operation down again."""
        return self.__class__.__qualname__, [], {"name": self.name}
