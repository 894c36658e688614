"""``procrastinate worker``."""

from __future__ import annotations

import argparse
import json
import unicodedata
from collections.abc import Sequence

from procrastinate.app import App
from procrastinate.cli.arguments import (
    Names,
    Switch,
    WrongValue,
    add_argument,
    boolean,
    check_unquoted,
    given,
    integer,
    one_of,
    seconds,
)
from procrastinate.jobs import DeleteJobCondition
from procrastinate.worker import (
    ABORT_JOB_POLLING_INTERVAL,
    FETCH_JOB_POLLING_INTERVAL,
    LEGACY_WORKER_TIMEOUT,
    MAX_RESCUES,
    STALLED_WORKER_TIMEOUT,
    UNKNOWN_TASK_TIMEOUT,
    WORKER_CONCURRENCY,
    WORKER_NAME,
    CommandSettings,
    WorkerOptions,
    command_settings,
)

HANDLES_SIGNALS = True

_EPILOG = "Options come from the command line, the environment, the app's worker_defaults, or the defaults above."

_OPTIONS = (
    "name",
    "queues",
    "concurrency",
    "max_jobs",
    "fetch_job_polling_interval",
    "abort_job_polling_interval",
    "shutdown_graceful_timeout",
    "unknown_task_timeout",
    "stalled_worker_timeout",
    "max_rescues",
    "legacy_worker_timeout",
    "wait_for_schema",
    "wait",
    "listen_notify",
    "delete_jobs",
    "prefetch",
    "store_errors",
)
_COMMAND_OPTIONS = ("processes", "uvloop", "reload")


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`worker_command`. An option that is not set comes from the app's defaults."""
    parser.epilog = _EPILOG
    add_argument(parser, "-n", "--name", env="WORKER_NAME", help="name of the worker", otherwise=WORKER_NAME)
    add_argument(
        parser,
        "-q",
        "--queues",
        env="WORKER_QUEUES",
        help="comma-separated names of queues, may be repeated; an empty value means all",
        otherwise="all",
        action=Names,
        type=_queues,
        empty_is_unset=False,
    )
    add_argument(
        parser,
        "-c",
        "--concurrency",
        env="WORKER_CONCURRENCY",
        help="number of jobs to run at the same time",
        otherwise=f"{WORKER_CONCURRENCY}",
        type=_at_least_one,
    )
    add_argument(
        parser,
        "--max-jobs",
        env="WORKER_MAX_JOBS",
        help="stop after this number of jobs, so that a supervisor restarts the worker; --processes replaces it",
        otherwise="no limit",
        type=_at_least_one,
        metavar="JOBS",
    )
    add_argument(
        parser,
        "--processes",
        env="WORKER_PROCESSES",
        help="number of worker processes, each with these options; a process that ends is replaced, a signal stops all",
        otherwise="1",
        type=_at_least_one,
        metavar="N",
    )
    add_argument(
        parser,
        "--max-rescues",
        env="WORKER_MAX_RESCUES",
        help="number of times that a job is taken back from a dead worker before it fails",
        otherwise=f"{MAX_RESCUES}",
        type=_at_least_zero,
        metavar="TIMES",
    )
    _add_times(parser)
    _add_switches(parser)
    add_argument(
        parser,
        "--delete-jobs",
        env="WORKER_DELETE_JOBS",
        help="finished jobs to delete: never, successful or always",
        otherwise=DeleteJobCondition.NEVER.value,
        type=one_of(condition.value for condition in DeleteJobCondition),
        metavar="WHICH",
    )


def _add_times(parser: argparse.ArgumentParser) -> None:
    for flags, help_, otherwise in (
        (
            ["-p", "--fetch-job-polling-interval"],
            "polling interval for new jobs",
            f"{FETCH_JOB_POLLING_INTERVAL:g}",
        ),
        (
            ["-a", "--abort-job-polling-interval"],
            "polling interval for abort requests",
            f"{ABORT_JOB_POLLING_INTERVAL:g}",
        ),
        (
            ["--shutdown-graceful-timeout"],
            "time that running jobs have to finish when the worker stops, before they are aborted",
            "no limit",
        ),
        (
            ["--unknown-task-timeout"],
            "time that jobs of an unknown task wait for a worker that knows it, before they fail",
            f"{UNKNOWN_TASK_TIMEOUT:g}",
        ),
        (
            ["--stalled-worker-timeout"],
            "time without a heartbeat after which the other workers take back the jobs of this one",
            f"{STALLED_WORKER_TIMEOUT:g}",
        ),
        (
            ["--legacy-worker-timeout"],
            "how long a worker of Procrastinate 3.x may be silent before its jobs are taken back",
            f"{LEGACY_WORKER_TIMEOUT:g}",
        ),
    ):
        help_ = f"{help_}, in seconds"
        add_argument(
            parser, *flags, env=_variable(flags), help=help_, otherwise=otherwise, type=seconds, metavar="SECONDS"
        )


def _variable(flags: Sequence[str]) -> str:
    """Return the environment variable of an option, without the prefix."""
    return "WORKER_" + flags[-1].removeprefix("--").replace("-", "_").upper()


def _add_switches(parser: argparse.ArgumentParser) -> None:
    for flags, off, help_, otherwise in (
        (["-w", "--wait"], "--one-shot", "wait for more jobs when none is left, or exit (--one-shot)", "wait"),
        (
            ["-l", "--listen-notify"],
            "--no-listen-notify",
            "listen for notifications of new jobs, or only poll for jobs",
            "listen",
        ),
        (
            ["--prefetch"],
            "--no-prefetch",
            "prefetch jobs while each takes milliseconds, or fetch only jobs that can start at once",
            "prefetch",
        ),
        (
            ["--store-errors"],
            "--no-store-errors",
            "keep the exception of each attempt that raised, or keep none",
            "keep",
        ),
        (
            ["--wait-for-schema"],
            "--no-wait-for-schema",
            "at the start, wait until the schema is applied, or end",
            "wait",
        ),
        (["--uvloop"], "--no-uvloop", "run on uvloop, or on asyncio's own event loop", "uvloop if it is installed"),
        (["--reload"], "--no-reload", "for development: restart the workers when the code changes", "no"),
    ):
        add_argument(
            parser,
            *flags,
            env=_variable(flags),
            help=help_,
            otherwise=otherwise,
            type=boolean,
            action=Switch,
            off=[off],
        )


def _queues(value: str) -> list[str] | None:
    if not value.strip():
        return None
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names:  # running all queues would be a surprise
        raise WrongValue(f"{value!r} has commas but no name: is a variable not set? For all queues, leave it empty")
    if _is_json_list(value):
        raise WrongValue(f"{value!r} is JSON: write the names with commas between them, without brackets and quotes")
    for name in names:
        check_unquoted(name)
        if {unicodedata.category(name[0]), unicodedata.category(name[-1])} & {"Cf", "Cc"}:
            raise WrongValue(f"{name!a} begins or ends with a character that cannot be seen: remove it")
    return names


def _is_json_list(value: str) -> bool:
    try:
        return isinstance(json.loads(value), list)
    except (ValueError, RecursionError):
        return False


def _at_least_one(value: str) -> int:
    number = integer(value)
    if number < 1:
        raise WrongValue(f"{value!r} is not a whole number of at least 1")
    return number


def _at_least_zero(value: str) -> int:
    number = integer(value)
    if number < 0:
        raise WrongValue(f"{value!r} is not a whole number of at least 0")
    return number


def given_options(arguments: argparse.Namespace) -> WorkerOptions:
    """Return the worker options that the command line or the environment sets."""
    options: WorkerOptions = given(arguments, _OPTIONS)  # type: ignore[assignment]
    return options


def given_settings(app: App, arguments: argparse.Namespace) -> CommandSettings:
    """Return the settings of the command itself: its processes, its event loop, and if it reloads code."""
    return command_settings(app.worker_defaults, given(arguments, _COMMAND_OPTIONS))


def worker_command(app: App, arguments: argparse.Namespace) -> None:
    """Run a worker until it stops, or supervise several worker processes. Each of them runs this command with a tether.

    Raises
    ------
    ValueError
        uvloop is required and not installed.
    WorkerProcessFailed
        A worker process could not start, or ended with an error.
    """
    from procrastinate.cli.run_worker import run_worker  # the other commands need no worker

    run_worker(app, given_settings(app, arguments), given_options(arguments), path=getattr(arguments, "app", None))


async def worker_command_async(app: App, arguments: argparse.Namespace) -> None:
    """Do the same as :func:`worker_command`, in the running event loop."""
    from procrastinate.cli.run_worker import run_worker_async

    settings, options = given_settings(app, arguments), given_options(arguments)
    await run_worker_async(app, settings, options, path=getattr(arguments, "app", None))
