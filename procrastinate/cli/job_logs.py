"""``procrastinate logs``: print what the runs of a job logged."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from procrastinate._quoting import quoted, quoted_lines
from procrastinate._text.terminal import say, say_lines
from procrastinate.app import App
from procrastinate.cli.arguments import integer
from procrastinate.cli.json_output import write_json
from procrastinate.cli.waits import database_awaited

if TYPE_CHECKING:
    from procrastinate.core import KeptLog, LogLine

_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red", "DEBUG": "dim"}


def add_job_logs_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`job_logs_command`."""
    parser.add_argument("job_id", type=integer, help="the id of the job")
    parser.add_argument("--json", action="store_true", help="print the logs as JSON, the newest run first")


def job_logs_command(app: App, arguments: argparse.Namespace) -> None:
    """Print the logs of a job, the newest run last.

    Raises
    ------
    NoResult
        There is no such job.
    """
    with database_awaited(), app.open():
        logs = app.job_manager.get_logs(arguments.job_id)
    if arguments.json:
        write_json(logs)
        return
    for log in reversed(logs):
        _print(log)
    if not logs:
        say(f"Job {arguments.job_id} has kept no log. Tasks keep logs with keep_logs=True", sys.stderr)


def _print(log: KeptLog) -> None:
    say(f"Attempt {log.attempt}", colour="bold")
    if log.left_out:
        say(f"  {log.left_out:,} earlier lines are left out")
    for line in log.lines:
        say_lines(_text(line), colour=_COLOURS.get(line.level))


def _text(line: LogLine) -> str:
    """Return a line. What follows in its text is indented, so that no text looks like another line."""
    time = line.at.isoformat(timespec="milliseconds")
    head = quoted(f"{time} {line.level} {line.logger}")
    return f"{head} " + quoted_lines(line.text).replace("\n", "\n    ")
