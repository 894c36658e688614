"""``procrastinate shell``."""

from __future__ import annotations

import argparse
import shlex

from procrastinate.app import App
from procrastinate.cli.waits import database_awaited
from procrastinate.shell import ProcrastinateShell


def add_shell_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`shell_command`."""
    parser.add_argument("shell_command", nargs="*", help="run this one shell command and exit")


def shell_command(app: App, arguments: argparse.Namespace) -> None:
    """Start the interactive shell, or run the one command in the arguments."""
    app.perform_import_paths()
    with app.open():
        shell = ProcrastinateShell(app.job_manager)
        if arguments.shell_command:
            with database_awaited():
                shell.run_one(shlex.join(arguments.shell_command))
        else:
            shell.cmdloop()
