"""Operations that ask whether the database is fit for use."""

from __future__ import annotations

import sqlalchemy as sa

from procrastinate.core.tables import jobs


def jobs_table_exists(connection: sa.Connection) -> bool:
    """Whether the schema has been applied (in the schema that the connection looks in)."""
    statement = sa.select(sa.func.to_regclass(sa.bindparam("name", type_=sa.Text())).is_not(None))
    return bool(connection.execute(statement, {"name": jobs.name}).scalar_one())
