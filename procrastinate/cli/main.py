"""The parser, and what happens when the command is run."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate._quoting import indented
from procrastinate._text.logs import get_logger
from procrastinate._text.terminal import say
from procrastinate.app import App
from procrastinate.cli.arguments import add_argument
from procrastinate.cli.defer import add_defer_arguments, defer_command
from procrastinate.cli.healthchecks import healthchecks_command
from procrastinate.cli.logs import add_logging_arguments, configure_logging
from procrastinate.cli.schema import add_schema_arguments, needs_app, schema_command
from procrastinate.cli.shell import add_shell_arguments, shell_command
from procrastinate.cli.worker import add_worker_arguments, worker_command, worker_command_async

logger = get_logger(__name__)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    parser = argparse.ArgumentParser(prog="procrastinate", description="Jobs in PostgreSQL: run them, look at them.")
    add_argument(parser, "-a", "--app", env="APP", help="dotted path to the app: package.module.name")
    parser.add_argument("-V", "--version", action="version", version=_version())
    add_logging_arguments(parser)
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_command(commands, "worker", worker_command, add_worker_arguments, "run jobs until stopped")
    _add_command(commands, "defer", defer_command, add_defer_arguments, "defer a job of a task")
    schema = _add_command(commands, "schema", schema_command, add_schema_arguments, "apply the schema, or print it")
    schema.set_defaults(needs_app=needs_app)
    _add_command(commands, "healthchecks", healthchecks_command, None, "check the app and its database")
    _add_command(commands, "shell", shell_command, add_shell_arguments, "look at jobs, retry and cancel them")
    return parser


def _version() -> str:
    return f"procrastinate, version {importlib.metadata.version('procrastinate')}"


def _add_command(
    commands: Any,
    name: str,
    run: Callable[..., None],
    add_arguments: Callable[[argparse.ArgumentParser], None] | None,
    help_: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_, description=help_.capitalize() + ".")
    if add_arguments is not None:
        add_arguments(parser)
    parser.set_defaults(run=run, needs_app=lambda arguments: True)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv:
        The arguments; those of the process by default.

    Returns
    -------
    The exit status: 1 where it failed, with the reasons on stderr.
    """
    arguments = _parse(argv)
    try:
        arguments.run(_app_of(arguments), arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output (head, say) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        logger.debug("The command failed", exc_info=True)
        _print_reasons(error)
        return 1
    return 0


async def cli(args: Sequence[str]) -> None:
    """Run the command in an event loop that runs already, as 3.x did: ``asyncio.run(cli(["worker"]))``.

    A worker runs in this loop, and cancelling the call stops it gracefully. Any other command runs in a thread.

    Parameters
    ----------
    args:
        The arguments, without the name of the program.

    Raises
    ------
    Exception
        What the command has failed with. :func:`main` prints the reasons instead.
    """
    arguments = _parse(args)
    app = _app_of(arguments)
    if arguments.run is worker_command and app is not None:
        await worker_command_async(app, arguments)
    else:
        await asyncio.to_thread(arguments.run, app, arguments)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    arguments = make_parser().parse_args(argv)
    configure_logging(arguments)
    return arguments


def _app_of(arguments: argparse.Namespace) -> App | None:
    return _load_app(arguments) if arguments.needs_app(arguments) else None


def _load_app(arguments: argparse.Namespace) -> App:
    path = getattr(arguments, "app", None)
    if path is None:
        raise exceptions.MissingApp
    # A console script does not look in the working directory. At the end, so that nothing installed is hidden.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return App.from_path(path)


def _print_reasons(error: BaseException) -> None:
    say("\n".join(_reasons(error)), sys.stderr, colour="red")


def _message(error: BaseException) -> str:
    """What an error says; with its name, where the text alone would be a riddle (a KeyError's, say)."""
    text, name = str(error).strip(), type(error).__name__
    if isinstance(error, (exceptions.ProcrastinateException, psycopg.Error)):
        return text or name
    return f"{name}: {text}" if text else name


def _reasons(error: BaseException) -> Iterator[str]:
    """The message of the error, and of its causes where they say something new."""
    said = ""
    current: BaseException | None = error
    while current is not None:
        # SQLAlchemy's own text repeats the statement: the driver's error, its cause, is enough.
        text = "" if isinstance(current, sa.exc.DBAPIError) else _message(current)
        if text and text not in said:
            yield indented(text if not said else f"  because: {text}")
            said += text
        current = current.__cause__
