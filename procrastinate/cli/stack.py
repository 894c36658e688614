"""``procrastinate stack``: print where the code of a running job is now."""

from __future__ import annotations

import argparse

from procrastinate._text.terminal import say, say_lines
from procrastinate.app import App
from procrastinate.cli.arguments import integer
from procrastinate.cli.json_output import write_json
from procrastinate.cli.waits import database_awaited


def add_stack_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`stack_command`."""
    parser.add_argument("job_id", type=integer, help="the id of the job")
    parser.add_argument("--json", action="store_true", help="print the stack as JSON")


def stack_command(app: App, arguments: argparse.Namespace) -> None:
    """Ask the worker of a job for its stack, and print the answer.

    Raises
    ------
    NoStack
        The job does not run, or its worker has not answered.
    """
    with database_awaited(), app.open():
        stack = app.job_manager.get_stack(arguments.job_id)
    if arguments.json:
        write_json(stack)
        return
    say(f"Attempt {stack.attempt}, as of {stack.at.isoformat(timespec='milliseconds')}", colour="bold")
    say_lines(stack.text.rstrip("\n"))
