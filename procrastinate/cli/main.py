"""The ``procrastinate`` command: its parser, its exit status and its error messages."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from procrastinate import exceptions
from procrastinate._checks.times import TooFarAway
from procrastinate._legacy import metadata
from procrastinate._quoting import indented
from procrastinate._text.logs import get_logger
from procrastinate._text.terminal import say_lines, write
from procrastinate.cli.arguments import add_argument, repeat_options
from procrastinate.cli.collector import collector_paused
from procrastinate.cli.logs import add_logging_arguments, configure_logging
from procrastinate.cli.stop_signals import sigterm_ends_first_process, sigterm_exits
from procrastinate.cli.sub_commands import SUB_COMMANDS, as_sentence
from procrastinate.cli.suggestions import SuggestingParser

if TYPE_CHECKING:
    from procrastinate.app import App

logger = get_logger(__name__)


def make_parser(words: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command and its sub-commands.

    Parameters
    ----------
    words:
        The command line to parse. Only the sub-commands that it names get their arguments, because those of the others
        take long to load. The default is all sub-commands.
    """
    parser = SuggestingParser(prog="procrastinate", description="Run and inspect jobs in PostgreSQL.")
    add_argument(parser, "-a", "--app", env="APP", help="dotted path to the app: package.module.name")
    parser.add_argument(
        "-V", "--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="print the release and exit"
    )
    add_logging_arguments(parser)
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in SUB_COMMANDS:
        filled = commands.add_parser(command.name, help=command.help, description=as_sentence(command.help))
        if words is None or command.name in words:
            command.fill(filled)
    repeat_options(parser, commands.choices.values())
    return parser


class _Version(argparse.Action):
    """Prints the release, which is read only then."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        write(f"procrastinate, version {metadata('__version__')}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv:
        The arguments without the name of the program. The default is ``sys.argv[1:]``.

    Returns
    -------
    The exit status. It is 1 after an error, whose reasons are printed to stderr, and 130 after Ctrl-C.

    Raises
    ------
    SystemExit
        A sub-command has a status of its own, or SIGTERM has ended it (143).
    """
    try:
        with sigterm_ends_first_process(), collector_paused(until_the_exit=argv is None):
            arguments = _parse(argv)
            app = _app_of(arguments)
        with contextlib.nullcontext() if arguments.handles_signals else sigterm_exits():
            arguments.run(app, arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output, for example head, has exited
        drop_output()
        return 1
    except Exception as error:
        logger.debug("The command failed", exc_info=True)
        _print_reasons(error)
        return 1
    return 0


def drop_output() -> None:
    """Drop all further output, because its reader has exited. Python would fail once more to flush it at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def cli(args: Sequence[str]) -> None:
    """Run the command in the running event loop, as in 3.x: ``asyncio.run(cli(["worker"]))``.

    A worker runs in this loop, and cancelling the call stops it gracefully. Other commands run in a thread.

    Parameters
    ----------
    args:
        The arguments, without the name of the program.

    Raises
    ------
    Exception
        The error of the command. :func:`main` prints it instead of raising it.
    """
    arguments = _parse(args)
    app = _app_of(arguments)
    from procrastinate.cli.worker import worker_command, worker_command_async  # slow, see make_parser

    if arguments.run is worker_command and app is not None:
        await worker_command_async(app, arguments)
    else:
        await asyncio.to_thread(arguments.run, app, arguments)


def _open_closed_streams() -> None:
    """Open the null device for each standard stream that is closed. Otherwise a connection would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode)  # noqa: SIM115 - as long as the process
            os.set_inheritable(stream.fileno(), True)  # worker processes have it, too
            setattr(sys, name, stream)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    _open_closed_streams()
    words = sys.argv[1:] if argv is None else argv
    arguments = make_parser(words).parse_args(words)
    configure_logging(arguments)
    return arguments


def _app_of(arguments: argparse.Namespace) -> App | None:
    # A console script does not search the working directory. Append it, so that it hides no installed package.
    # A command without an app may name another module.
    with contextlib.suppress(FileNotFoundError):  # the directory is removed
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
    if not arguments.needs_app(arguments):
        return None
    path = getattr(arguments, "app", None)
    if path is None:
        raise exceptions.MissingApp
    from procrastinate.app import App  # slow, and --help does without

    return App.from_path(path)


def _print_reasons(error: BaseException) -> None:
    say_lines(reasons(error), sys.stderr, colour="red")


def reasons(error: BaseException) -> str:
    """Return the message of an error for a user of the command, with those of its causes that add information."""
    return "\n".join(_reasons(error))


def _message(error: BaseException) -> str:
    """Return the text of an error. Add the class name if the text alone is unclear, as in a ``KeyError``."""
    text, name = str(error).strip(), type(error).__name__
    if isinstance(error, exceptions.ProcrastinateException) or _is_error_of_psycopg(error) or _is_refusal(error):
        return text or name
    return f"{name}: {text}" if text else name


def _is_error_of_psycopg(error: BaseException) -> bool:
    psycopg = sys.modules.get("psycopg")  # slow to load, and without libpq it cannot be loaded
    return psycopg is not None and isinstance(error, psycopg.Error)


def _is_refusal(error: BaseException) -> bool:
    """Return true for an error that this package raised itself. Its text is a sentence that needs no class name."""
    if type(error) not in (ValueError, LookupError, TooFarAway):
        return False
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and str(frame.tb_frame.f_globals.get("__name__")).startswith("procrastinate.")


def _reasons(error: BaseException) -> Iterator[str]:
    """Yield the message of the error, and those of its causes that add information."""
    import sqlalchemy as sa  # slow to load, and only some commands need it

    said = ""  # with single spaces, because a driver's text is indented where an error of this package repeats it
    current: BaseException | None = error
    while current is not None:
        # SQLAlchemy's text repeats the statement. The driver's error, its cause, is enough.
        text = "" if isinstance(current, sa.exc.DBAPIError) else _message(current)
        is_known = bool(said) and _on_one_line(str(current)) in said
        if text and not is_known:
            yield indented(text if not said else f"  because: {text}")
            said += _on_one_line(text)
        # What is missing in tables of another release is no reason that a reader could do anything about.
        current = None if isinstance(current, exceptions.SchemaNotApplied) else current.__cause__


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
