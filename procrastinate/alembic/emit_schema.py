"""Writes ``procrastinate/sql/schema.sql`` from the revisions: ``python -m procrastinate.alembic.emit_schema``."""

from __future__ import annotations

import pathlib

from procrastinate.alembic import upgrades

PATH = pathlib.Path(__file__).parents[1] / "sql" / "schema.sql"


def schema() -> str:
    """Return what the file is to have."""
    lines = upgrades.upgrade_sql(transactional=False).splitlines()
    return "\n".join(line.rstrip() for line in lines).strip() + "\n"


if __name__ == "__main__":
    PATH.write_text(schema())
