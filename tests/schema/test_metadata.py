"""The metadata, which every statement is built from, say what the migrations make."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from procrastinate.alembic.settings import VERSION_TABLE
from procrastinate.core import EventType, Status, metadata
from tests.schema.snapshot import tables_of, take_snapshot


@pytest.fixture
def metadata_engine(empty_database_url: str) -> Iterator[sa.Engine]:
    """An engine on a database that was built from the metadata."""
    engine = sa.create_engine(empty_database_url)
    metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_the_tables_are_the_same(engine: sa.Engine, metadata_engine: sa.Engine) -> None:
    """Columns, defaults, indexes with their predicates, constraints, sequences and enums."""
    with engine.connect() as migrated, metadata_engine.connect() as built:
        from_migrations, from_metadata = tables_of(take_snapshot(migrated)), tables_of(take_snapshot(built))
    assert all(from_migrations.values())
    for kind, lines in from_migrations.items():
        assert from_metadata[kind] == lines


def test_alembic_finds_no_difference(connection: sa.Connection) -> None:
    context = MigrationContext.configure(
        connection,
        opts={
            "version_table": VERSION_TABLE,
            "compare_server_default": True,
            "include_name": lambda name, kind, parents: kind != "table" or name in metadata.tables,
        },
    )
    assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize(
    ("type_name", "values"),
    [
        ("procrastinate_job_status", [member.value for member in Status]),
        ("procrastinate_job_event_type", [member.value for member in EventType]),
    ],
)
def test_the_enums_have_the_values_of_python(connection: sa.Connection, type_name: str, values: list[str]) -> None:
    statement = sa.text("SELECT unnest(enum_range(NULL::" + type_name + "))::text")
    assert list(connection.execute(statement).scalars()) == values
