"""Projects with their own Alembic migrations."""

from __future__ import annotations

import pathlib

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from procrastinate.alembic import revisions, upgrades
from procrastinate.schema import SchemaManager, include_object

ENV = """
from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""

REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "own_0001"
down_revision = None
depends_on = {depends_on!r}


def upgrade():
    op.create_table("orders", sa.Column("id", sa.Integer, primary_key=True))


def downgrade():
    op.drop_table("orders")
"""

OWN = sa.MetaData()
sa.Table("orders", OWN, sa.Column("id", sa.Integer, primary_key=True))


def _project(directory: pathlib.Path, *, depends_on: str | None = None) -> Config:
    versions = directory / "versions"
    versions.mkdir()
    (directory / "env.py").write_text(ENV)
    (versions / "own_0001_orders.py").write_text(REVISION.format(depends_on=depends_on))
    config = Config()
    config.set_main_option("script_location", str(directory))
    return config


def _differences(connection: sa.Connection, *, hook: bool) -> list[object]:
    options = {"include_object": include_object} if hook else {}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), OWN))


def test_side_by_side(tmp_path: pathlib.Path, empty_database_url: str) -> None:
    """The two histories use two version tables and run in either order."""
    config = _project(tmp_path)
    engine = sa.create_engine(empty_database_url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        upgrades.upgrade(connection)
    with engine.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names())
        assert {"orders", "alembic_version", "procrastinate_jobs", "procrastinate_alembic_version"} <= tables
        assert revisions.current_revision(connection) == revisions.head_revision()
    engine.dispose()


def test_in_one_history(tmp_path: pathlib.Path, empty_database_url: str) -> None:
    """The project lists both folders of revisions, and its own revision depends on ours."""
    config = _project(tmp_path, depends_on="procrastinate_0001")
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", f"{tmp_path / 'versions'}:{SchemaManager.get_migrations_path()}")
    engine = sa.create_engine(empty_database_url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "own_0001")
        tables = set(sa.inspect(connection).get_table_names())
        assert {"orders", "procrastinate_jobs"} <= tables
        assert "procrastinate_alembic_version" not in tables

        command.downgrade(config, "base")
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
    engine.dispose()


def test_autogenerate_leaves_the_tables_alone(empty_database_url: str) -> None:
    """Autogenerate finds only the project's own missing tables."""
    engine = sa.create_engine(empty_database_url)
    with engine.begin() as connection:
        upgrades.upgrade(connection)
        assert len(_differences(connection, hook=False)) > 5
        assert [kind for kind, *_ in _differences(connection, hook=True)] == ["add_table"]  # type: ignore[misc]
        OWN.create_all(connection)
        assert _differences(connection, hook=True) == []
    engine.dispose()


@pytest.mark.parametrize("name", ["orders", "procrastination", "my_procrastinate_jobs"])
def test_other_tables_are_the_projects_own(name: str) -> None:
    """Tables with similar names belong to the project."""
    table = sa.Table(name, sa.MetaData(), sa.Column("id", sa.Integer, index=True))
    assert include_object(table, name, "table", False, None)
    assert include_object(table.c.id, "id", "column", False, None)
    assert include_object(next(iter(table.indexes)), "index", "index", False, None)
