"""``procrastinate defer``."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from procrastinate import exceptions
from procrastinate._functions.import_path import load_from_path
from procrastinate._quoting import quoted
from procrastinate._text.terminal import say
from procrastinate.app import App
from procrastinate.cli.arguments import (
    Switch,
    WrongValue,
    add_argument,
    boolean,
    given,
    given_name,
    integer,
    moment,
    seconds,
)
from procrastinate.cli.suggestions import meant
from procrastinate.cli.waits import database_awaited
from procrastinate.jobs import JobDeferrer
from procrastinate.tasks import Task


def add_defer_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`defer_command`."""
    parser.add_argument("task", help="name of the task, or its dotted path")
    add_argument(
        parser,
        "json_args",
        env="DEFER_JSON_ARGS",
        help="arguments of the job, as a JSON object",
        type=_json_object,
        nargs="?",
        default={},
    )
    add_argument(parser, "--queue", env="DEFER_QUEUE", help="queue (default: the queue of the task)", type=given_name)
    add_argument(parser, "--lock", env="DEFER_LOCK", help="jobs with the same lock run one at a time", type=given_name)
    add_argument(
        parser,
        "--queueing-lock",
        env="DEFER_QUEUEING_LOCK",
        help="at most one waiting job can have a queueing lock",
        type=given_name,
    )
    add_argument(
        parser,
        "-i",
        "--ignore-already-enqueued",
        env="DEFER_IGNORE_ALREADY_ENQUEUED",
        help="if a waiting job has the same queueing lock, print a message and succeed",
        type=boolean,
        action=Switch,
        off=["--no-ignore-already-enqueued"],
        default=False,
    )
    _add_schedule(parser)
    add_argument(
        parser,
        "--priority",
        env="DEFER_PRIORITY",
        help="jobs with a higher priority run first; it may be negative (default: the priority of the task)",
        type=integer,
    )
    add_argument(
        parser,
        "--unknown",
        env="DEFER_UNKNOWN",
        help="allow a task that this app does not have",
        type=boolean,
        action=Switch,
        off=["--no-unknown"],
        default=False,
    )


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    schedule = parser.add_mutually_exclusive_group()
    add_argument(
        schedule,
        "--at",
        env="DEFER_AT",
        help="earliest start: a date and time with a time zone (ISO 8601)",
        type=moment,
        dest="schedule_at",
        metavar="TIME",
    )
    add_argument(
        schedule,
        "--in",
        env="DEFER_IN",
        help="seconds until the earliest start",
        type=seconds,
        dest="schedule_in",
        metavar="SECONDS",
    )


def _json_object(value: str) -> dict[str, Any]:
    try:
        loaded = json.loads(value)
    except ValueError as error:
        raise WrongValue(f"JSON_ARGS is not JSON: {error}") from None
    if not isinstance(loaded, dict):
        raise WrongValue(f"JSON_ARGS must be a JSON object, like '{{\"name\": 1}}', not {type(loaded).__name__}")
    return loaded


def defer_command(app: App, arguments: argparse.Namespace) -> None:
    """Defer one job, and print its id.

    Raises
    ------
    TaskNotFound
        The app does not have the task, and ``--unknown`` is not set.
    AlreadyEnqueued
        A waiting job has the same queueing lock, and ``--ignore-already-enqueued`` is not set.
    """
    app.perform_import_paths()
    deferrer = _deferrer(app, arguments)
    with database_awaited(), app.open():
        try:
            job_id = deferrer.defer(**arguments.json_args)
        except exceptions.AlreadyEnqueued as error:
            if not arguments.ignore_already_enqueued:
                raise
            say(quoted(f"{error} (ignored)"), sys.stderr)
            return
        except TypeError as error:  # the arguments are not those of the task
            raise exceptions.ProcrastinateException(str(error)) from error
    say(quoted(f"Deferred job {job_id}: {arguments.task}"))


def _deferrer(app: App, arguments: argparse.Namespace) -> JobDeferrer:
    options = given(arguments, ("queue", "lock", "queueing_lock", "schedule_at", "priority"))
    if hasattr(arguments, "schedule_in"):
        options["schedule_in"] = {"seconds": arguments.schedule_in}
    try:
        return app.configure_task(arguments.task, allow_unknown=False, **options)
    except exceptions.TaskNotFound as error:
        task = _at_path(arguments.task)
        if task is not None:
            return task.configure(**options)
        if arguments.unknown:
            return app.configure_task(arguments.task, allow_unknown=True, **options)
        raise exceptions.TaskNotFound(f"{error}{meant(arguments.task, app.tasks)}") from None


def _at_path(path: str) -> Task[..., Any, Any] | None:
    try:
        return load_from_path(path, Task)
    except exceptions.LoadFromPathError:
        return None
