"""The ``procrastinate`` command: its parser, its exit status and its error messages."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate._legacy import metadata
from procrastinate._quoting import indented
from procrastinate._text.logs import get_logger
from procrastinate._text.terminal import say, write
from procrastinate.app import App
from procrastinate.cli.arguments import add_argument, repeat_options
from procrastinate.cli.bulk import add_cancel_arguments, add_retry_arguments, cancel_command, retry_command
from procrastinate.cli.celery_bridge import add_bridge_arguments, bridge_command
from procrastinate.cli.celery_schedule import add_schedule_arguments, schedule_command
from procrastinate.cli.check import add_check_arguments, check_command
from procrastinate.cli.dashboard import add_dashboard_arguments, dashboard_command
from procrastinate.cli.defer import add_defer_arguments, defer_command
from procrastinate.cli.dev import add_dev_arguments, dev_command
from procrastinate.cli.doctor import add_doctor_arguments, doctor_command
from procrastinate.cli.healthchecks import add_healthchecks_arguments, healthchecks_command
from procrastinate.cli.job_logs import add_job_logs_arguments, job_logs_command
from procrastinate.cli.limits import add_limits_arguments, limits_command
from procrastinate.cli.logs import add_logging_arguments, configure_logging
from procrastinate.cli.metrics import add_metrics_arguments, metrics_command
from procrastinate.cli.queues import add_queues_arguments, queues_command
from procrastinate.cli.schema import add_schema_arguments, needs_app, schema_command
from procrastinate.cli.shell import add_shell_arguments, shell_command
from procrastinate.cli.suggestions import SuggestingParser
from procrastinate.cli.top import add_top_arguments, top_command
from procrastinate.cli.unique import add_unique_arguments, unique_command
from procrastinate.cli.why import add_why_arguments, why_command
from procrastinate.cli.worker import add_worker_arguments, worker_command, worker_command_async
from procrastinate.cli.workflow import add_workflow_arguments, workflow_command

logger = get_logger(__name__)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command and its sub-commands."""
    parser = SuggestingParser(prog="procrastinate", description="Run and inspect jobs in PostgreSQL.")
    add_argument(parser, "-a", "--app", env="APP", help="dotted path to the app: package.module.name")
    parser.add_argument(
        "-V", "--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="print the release and exit"
    )
    add_logging_arguments(parser)
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_command(commands, "worker", worker_command, add_worker_arguments, "run jobs until stopped")
    _add_command(commands, "dev", dev_command, add_dev_arguments, "run a worker that follows the code")
    _add_command(commands, "defer", defer_command, add_defer_arguments, "defer a job")
    schema = _add_command(commands, "schema", schema_command, add_schema_arguments, "apply the schema, or print it")
    schema.set_defaults(needs_app=needs_app)
    _add_command(
        commands,
        "healthchecks",
        healthchecks_command,
        add_healthchecks_arguments,
        "check the app and its database, or a running worker",
    )
    _add_command(commands, "workflow", workflow_command, add_workflow_arguments, "print a workflow as a tree")
    _add_command(commands, "shell", shell_command, add_shell_arguments, "inspect, retry and cancel jobs")
    _add_command(commands, "doctor", doctor_command, add_doctor_arguments, "show what is wrong with the installation")
    _add_command(commands, "check", check_command, add_check_arguments, "compare waiting jobs with the code")
    _add_command(commands, "top", top_command, add_top_arguments, "show the queue on the terminal")
    _add_command(commands, "why", why_command, add_why_arguments, "explain why a job does not run")
    _add_command(commands, "logs", job_logs_command, add_job_logs_arguments, "print what the runs of a job logged")
    _add_command(commands, "queues", queues_command, add_queues_arguments, "list, pause and resume queues")
    _add_command(commands, "unique", unique_command, add_unique_arguments, "show or free a unique key")
    _add_command(commands, "retry", retry_command, add_retry_arguments, "retry all failed jobs that match")
    _add_command(commands, "cancel", cancel_command, add_cancel_arguments, "cancel all waiting jobs that match")
    _add_command(commands, "dashboard", dashboard_command, add_dashboard_arguments, "serve pages that show the queue")
    _add_command(commands, "metrics", metrics_command, add_metrics_arguments, "serve metrics for Prometheus and KEDA")
    _add_command(commands, "limits", limits_command, add_limits_arguments, "list limits, or override their numbers")
    _add_command(commands, "celery-bridge", bridge_command, add_bridge_arguments, "turn messages of Celery into jobs")
    schedule = _add_command(
        commands, "celery-schedule", schedule_command, add_schedule_arguments, "print a schedule of Celery as code"
    )
    schedule.set_defaults(needs_app=lambda arguments: False)
    repeat_options(parser, commands.choices.values())
    return parser


class _Version(argparse.Action):
    """Prints the release, which is read only then."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        write(f"procrastinate, version {metadata('__version__')}")
        parser.exit()


def _add_command(
    commands: Any,
    name: str,
    run: Callable[..., None],
    add_arguments: Callable[[argparse.ArgumentParser], None],
    help_: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_, description=help_.capitalize() + ".")
    add_arguments(parser)
    parser.set_defaults(run=run, needs_app=lambda arguments: True)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv:
        The arguments without the name of the program. The default is ``sys.argv[1:]``.

    Returns
    -------
    The exit status. It is 1 after an error, whose reasons are printed to stderr, and 130 after Ctrl-C.
    """
    arguments = _parse(argv)
    try:
        arguments.run(_app_of(arguments), arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output, for example head, has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        logger.debug("The command failed", exc_info=True)
        _print_reasons(error)
        return 1
    return 0


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
    if arguments.run is worker_command and app is not None:
        await worker_command_async(app, arguments)
    else:
        await asyncio.to_thread(arguments.run, app, arguments)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    arguments = make_parser().parse_args(argv)
    configure_logging(arguments)
    return arguments


def _app_of(arguments: argparse.Namespace) -> App | None:
    # A console script does not search the working directory. Append it, so that it hides no installed package.
    # A command without an app may name another module.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return _load_app(arguments) if arguments.needs_app(arguments) else None


def _load_app(arguments: argparse.Namespace) -> App:
    path = getattr(arguments, "app", None)
    if path is None:
        raise exceptions.MissingApp
    return App.from_path(path)


def _print_reasons(error: BaseException) -> None:
    say("\n".join(_reasons(error)), sys.stderr, colour="red")


def _message(error: BaseException) -> str:
    """Return the text of an error. Add the class name if the text alone is unclear, as in a ``KeyError``."""
    text, name = str(error).strip(), type(error).__name__
    if isinstance(error, (exceptions.ProcrastinateException, psycopg.Error)):
        return text or name
    return f"{name}: {text}" if text else name


def _reasons(error: BaseException) -> Iterator[str]:
    """Yield the message of the error, and those of its causes that add information."""
    said = ""
    current: BaseException | None = error
    while current is not None:
        # SQLAlchemy's text repeats the statement. The driver's error, its cause, is enough.
        text = "" if isinstance(current, sa.exc.DBAPIError) else _message(current)
        if text and text not in said:
            yield indented(text if not said else f"  because: {text}")
            said += text
        current = current.__cause__
