"""``procrastinate celery-schedule``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from procrastinate import exceptions
from procrastinate._functions.import_path import load_from_path
from procrastinate._text.terminal import say, say_lines
from procrastinate.app import App
from procrastinate.from_celery.schedule import NOT_TRANSLATED, Entry, as_code, read_beat_schedule


def add_schedule_arguments(parser: argparse.ArgumentParser, **path_options: Any) -> None:
    """Add the arguments of :func:`schedule_command`.

    Parameters
    ----------
    path_options:
        What ``parser.add_argument`` takes for the path.
    """
    help_ = "dotted path to the Celery app, or to the dict that is its beat_schedule"
    parser.add_argument("path", help=help_, **path_options)
    parser.add_argument("--timezone", help="by whose clocks the schedules run: the app's, or UTC, by default")


def needs_app(arguments: argparse.Namespace) -> bool:
    """Return false: the app is Celery's."""
    return False


def schedule_command(app: App | None, arguments: argparse.Namespace) -> None:
    """Print the schedule of a Celery app as declarations.

    Raises
    ------
    LoadFromPathError
        There is neither an app nor a schedule at the path.
    """
    found = load_from_path(arguments.path, object)
    conf: Any = getattr(found, "conf", None)
    beat_schedule = found if isinstance(found, Mapping) else getattr(conf, "beat_schedule", None)
    if not isinstance(beat_schedule, Mapping):
        raise exceptions.LoadFromPathError(
            f"{arguments.path!r} is neither a Celery app nor a beat_schedule, but of type {type(found).__name__}. "
            "If the module has moved already, give the path of a copy that still has the Celery app"
        )
    timezone = arguments.timezone or getattr(conf, "timezone", None) or "UTC"
    print_declarations(read_beat_schedule(beat_schedule), str(timezone))


def print_declarations(entries: list[Entry], timezone: str) -> None:
    """Print declarations, with an empty line after each. They are literals of Python, so all of their text prints.

    Say on stderr how many schedules are not among them.
    """
    left = 0
    for code in as_code(entries, timezone):
        left += code.startswith(NOT_TRANSLATED)
        say_lines(f"{code}\n")
    if left:
        say(f"{left} of {len(entries)} schedules are not translated: look for {NOT_TRANSLATED}", sys.stderr)
