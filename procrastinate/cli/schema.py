"""``procrastinate schema``."""

from __future__ import annotations

import argparse

from procrastinate._text.terminal import write
from procrastinate.alembic import upgrades
from procrastinate.app import App
from procrastinate.cli.waits import database_awaited
from procrastinate.schema import SchemaManager


def add_schema_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`schema_command`."""
    action = parser.add_mutually_exclusive_group()
    for name, help_ in (
        ("apply", "bring the database to the newest schema, from nothing or from an older one (default)"),
        ("read", "print the SQL of the whole schema"),
        ("migrations-path", "print the folder of the Alembic revisions"),
    ):
        value = name.replace("-", "_")
        action.add_argument(f"--{name}", dest="action", action="store_const", const=value, default="apply", help=help_)


def needs_app(arguments: argparse.Namespace) -> bool:
    """Whether a database is needed: not to print."""
    return bool(arguments.action == "apply")


def schema_command(app: App | None, arguments: argparse.Namespace) -> None:
    """Apply the schema, or print something about it."""
    if arguments.action == "read":
        write(upgrades.upgrade_sql())
    elif arguments.action == "migrations_path":
        write(str(SchemaManager.get_migrations_path()))
    else:
        assert app is not None
        with database_awaited(), app.open():
            app.schema_manager.apply_schema()
        write("The schema is up to date")
