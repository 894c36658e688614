"""``procrastinate check``: compare the waiting jobs with the code, before it is deployed."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from procrastinate._quoting import quoted
from procrastinate._text.terminal import counted, say
from procrastinate.app import App
from procrastinate.cli.arguments import Names, WrongValue, given_name
from procrastinate.cli.json_output import write_json
from procrastinate.cli.waits import database_awaited

if TYPE_CHECKING:
    from procrastinate.deploy_check import DeployCheck


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`check_command`."""
    parser.add_argument(
        "--queues",
        type=_names,
        action=Names,
        default=[],
        help="look at these queues only, with commas; may be repeated (default: all)",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def check_command(app: App, arguments: argparse.Namespace) -> None:
    """Print the waiting jobs that do not fit the code: unknown tasks, other arguments, and queues without a worker.

    Raises
    ------
    SystemExit
        With status 1 if there are such jobs.
    """
    from procrastinate.deploy_check import check_waiting_jobs

    app.perform_import_paths()
    with database_awaited(), app.open():
        checked = check_waiting_jobs(app, queues=arguments.queues)
    if arguments.json:
        write_json(checked)
    else:
        _print(checked)
    if checked.problems:
        sys.exit(1)


def _print(checked: DeployCheck) -> None:
    for problem in checked.problems:
        say(quoted(f"{problem.code}: {problem.subject}: {problem.text}. {problem.advice}"), colour="red")
    if not checked.is_complete:
        say("More jobs wait than were looked at", colour="yellow")
    say(f"Looked at {counted(checked.looked_at, 'waiting job')}: {counted(len(checked.problems), 'problem')}")


def _names(text: str) -> list[str]:
    names = [name.strip() for name in given_name(text).split(",") if name.strip()]
    if not names:  # looking at all queues would be a surprise
        raise WrongValue(f"{text!r} has commas but no name: is a variable not set? For all queues, leave it out")
    return names
