"""``procrastinate celery-schedule``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from procrastinate import exceptions
from procrastinate._functions.import_path import load_from_path
from procrastinate._quoting import escaped_lines
from procrastinate._text.terminal import say, write
from procrastinate.app import App
from procrastinate.from_celery.entries import Entry, read_beat_schedule
from procrastinate.from_celery.routes import Route, routes_of
from procrastinate.from_celery.schedule import NOT_TRANSLATED, as_code

_NO_ROUTES = "A dict has no task_routes: if the project has them, give the path of the Celery app instead"


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
    print_declarations(read_beat_schedule(beat_schedule), str(timezone), read_routes(found))
    if found is beat_schedule:
        say(_NO_ROUTES, sys.stderr)


def read_routes(app: Any) -> Route | None:
    """Return the routes of a Celery app, or ``None`` if it has none.

    Raises
    ------
    LoadFromPathError
        A module with tasks of the app cannot be imported.
    """
    try:
        return routes_of(app)
    except Exception as error:  # a module may raise anything at its import
        raise exceptions.LoadFromPathError(
            f"Cannot import the tasks of the Celery app: {type(error).__name__}: {error}"
        ) from error


def print_declarations(entries: list[Entry], timezone: str, route: Route | None = None) -> None:
    """Print declarations, with an empty line after each. They are literals of Python, so all of their text prints.

    Say on stderr how many schedules are not among them.
    """
    left = 0
    for code in as_code(entries, timezone, route):
        left += code.startswith(NOT_TRANSLATED)
        write(escaped_lines(f"{code}\n"))  # a terminal breaks long lines itself, and a copy of them stays code
    if left:
        say(f"{left} of {len(entries)} schedules are not translated: look for {NOT_TRANSLATED}", sys.stderr)
