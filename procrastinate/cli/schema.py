"""``procrastinate schema``."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from procrastinate import alembic, exceptions
from procrastinate._text.terminal import write
from procrastinate.alembic.plans import UP_TO_DATE
from procrastinate.app import App
from procrastinate.cli.arguments import add_argument, one_of
from procrastinate.cli.waits import database_awaited
from procrastinate.schema import SchemaManager


def add_schema_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`schema_command`."""
    action = parser.add_mutually_exclusive_group()
    for name, help_ in (
        (
            "apply",
            "bring the database to the newest schema, from nothing, an older one or 3.10",
        ),
        ("plan", "print what --apply would do and lock, and change nothing"),
        ("read", "print the SQL of the whole schema"),
        ("contract", "drop what only Procrastinate 3.x needs: there is no way back to it then"),
        ("revert-to-3x", "give the tables the triggers, keys and functions of Procrastinate 3.x again"),
        ("migrations-path", "print the folder of the Alembic revisions"),
    ):
        value = name.replace("-", "_")
        action.add_argument(f"--{name}", dest="action", action="store_const", const=value, default=None, help=help_)
    add_argument(
        parser,
        "--orphans",
        env="ORPHANS",
        help="with --apply: what becomes of running jobs that Procrastinate 3.x has left behind",
        type=one_of(("keep", "retry", "fail")),
        otherwise="keep",
        metavar="keep|retry|fail",
    )
    parser.add_argument(
        "--from",
        dest="start",
        choices=["3"],
        help="with --read: print the SQL that upgrades the tables of Procrastinate 3.10",
    )


def needs_app(arguments: argparse.Namespace) -> bool:
    """Return true if the action needs a database. Printing needs none."""
    return arguments.action not in (None, "read", "migrations_path")


def schema_command(app: App | None, arguments: argparse.Namespace) -> None:
    """Apply the schema, go back, or print something about it.

    Raises
    ------
    ProcrastinateException
        No action was given.
    """
    if arguments.action is None:
        raise exceptions.ProcrastinateException(
            "Nothing was changed: say --apply to change the database, or --plan to see what would change"
        )
    if not needs_app(arguments):
        write(_printed(arguments))
        return
    assert app is not None
    with database_awaited(may_work_long=True), app.open():
        _ACTIONS[arguments.action](app.schema_manager, arguments)


def _printed(arguments: argparse.Namespace) -> str:
    if arguments.action == "migrations_path":
        return SchemaManager.get_migrations_path()
    if arguments.start is None:
        return alembic.upgrades.upgrade_sql()
    from procrastinate.alembic.adoption.script import script
    from procrastinate.alembic.build_ahead import script_ahead

    reached = alembic.adoption.REACHED
    return "\n\n".join((script(), script_ahead(reached), alembic.upgrades.upgrade_sql(reached)))


def _apply(schema: SchemaManager, arguments: argparse.Namespace) -> None:
    before = schema.plan()
    schema.apply_schema(orphans=getattr(arguments, "orphans", "keep"), report=write)
    write("The schema was up to date" if before == UP_TO_DATE else "The schema is applied")
    left_behind = schema.count_left_behind()
    if left_behind:
        write(
            f"{left_behind:,} running jobs were left behind by workers of Procrastinate 3.x that are gone. They stay "
            "as they are until you say `schema --apply --orphans=retry`, or `--orphans=fail`"
        )


def _plan(schema: SchemaManager, arguments: argparse.Namespace) -> None:
    write(schema.plan())


def _contract(schema: SchemaManager, arguments: argparse.Namespace) -> None:
    schema.contract(report=write)
    write("Nothing of Procrastinate 3.x is left but the functions that its programs call")


def _revert(schema: SchemaManager, arguments: argparse.Namespace) -> None:
    schema.revert_to_3x(report=write)
    write("The schema is that of Procrastinate 3.x")


_ACTIONS: dict[str, Callable[[SchemaManager, argparse.Namespace], None]] = {
    "apply": _apply,
    "plan": _plan,
    "contract": _contract,
    "revert_to_3x": _revert,
}
