"""``procrastinate worker``."""

from __future__ import annotations

import argparse
import asyncio
import functools
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

from procrastinate import exceptions
from procrastinate.app import App
from procrastinate.cli import banner
from procrastinate.cli.arguments import Switch, add_argument, boolean, check_unquoted, given, integer, one_of, seconds
from procrastinate.cli.event_loop import loop_factory
from procrastinate.cli.reload import SourceFiles, run_with_reload
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
    Supervisor,
    SupervisorSocket,
    Worker,
    WorkerOptions,
    command_settings,
)
from procrastinate.worker.processes import signals
from procrastinate.worker.processes.supervisor_socket import Word

_About: TypeAlias = Callable[[Worker], banner.WorkerDescription]

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
        help="comma-separated names of queues; an empty value means all",
        otherwise="all",
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
        (["-w", "--wait"], "--one-shot", "when no job is left, wait for more, or exit (--one-shot)", "wait"),
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
        raise ValueError(f"{value!r} has commas but no name: is a variable not set? For all queues, leave it empty")
    for name in names:
        check_unquoted(name)
    return names


def _at_least_one(value: str) -> int:
    number = integer(value)
    if number < 1:
        raise ValueError(f"{value!r} is not a whole number of at least 1")
    return number


def _at_least_zero(value: str) -> int:
    number = integer(value)
    if number < 0:
        raise ValueError(f"{value!r} is not a whole number of at least 0")
    return number


def given_options(arguments: argparse.Namespace) -> WorkerOptions:
    """Return the worker options that the command line or the environment sets."""
    options: WorkerOptions = given(arguments, _OPTIONS)  # type: ignore[assignment]
    return options


def worker_command(app: App, arguments: argparse.Namespace) -> None:
    """Run a worker until it stops, or supervise several worker processes. Each of them runs this command with a tether.

    Raises
    ------
    ValueError
        uvloop is required and not installed.
    WorkerProcessFailed
        A worker process could not start, or ended with an error.
    """
    settings = command_settings(app.worker_defaults, given(arguments, _COMMAND_OPTIONS))
    make_loop = loop_factory(settings.uvloop)
    if _is_supervisor(settings):
        make_loop = None  # a supervisor only waits for its processes
    with signals.sole_purpose(), asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(worker_command_async(app, arguments))


async def worker_command_async(app: App, arguments: argparse.Namespace) -> None:
    """Do the same as :func:`worker_command`, in the running event loop."""
    settings = command_settings(app.worker_defaults, given(arguments, _COMMAND_OPTIONS))
    options = given_options(arguments)
    if not _is_supervisor(settings):
        about = functools.partial(
            banner.describe_worker, app, path=getattr(arguments, "app", None), processes=settings.processes
        )
        await _run_worker(app, options, about, SupervisorSocket.from_environment())
        return
    replace = options.get("wait", app.worker_defaults.get("wait", True))

    def make_supervisor() -> Supervisor:
        return Supervisor(_this_command(), settings.processes, replace=replace)

    if settings.reload:
        await run_with_reload(make_supervisor, SourceFiles())
    else:
        await make_supervisor().run()


def _is_supervisor(settings: CommandSettings) -> bool:
    return (settings.processes > 1 or settings.reload) and not SupervisorSocket.is_in_environment()


def _this_command() -> list[str]:
    """Return the command line that started this process, including the options of the interpreter."""
    return [sys.executable, *sys.orig_argv[1:]]


async def _run_worker(app: App, options: WorkerOptions, about: _About, tether: SupervisorSocket | None) -> None:
    async with app.open_async():
        if tether is None:
            worker = app.make_worker(**options)
            banner.tell(worker, about(worker))
            await worker.run()
        else:
            await _run_tethered(app, options, about, tether)


async def _run_tethered(app: App, options: WorkerOptions, about: _About, tether: SupervisorSocket) -> None:
    name = options.get("name") or app.worker_defaults.get("name") or WORKER_NAME
    # The dot makes each process's logger a child of the logger with the name, so that it inherits its configuration.
    named: WorkerOptions = {**options, "name": f"{name}.{tether.number}"}
    worker = app.make_worker(**named)
    if tether.number == 1:  # the others are alike
        banner.tell(worker, about(worker))
    try:
        with tether.watched(when_loose=worker.stop_with_supervisor):
            await worker.run(on_start=lambda: tether.say(Word.STARTED))
    except exceptions.DatabaseUnavailable:
        tether.say(Word.DATABASE_UNAVAILABLE)
        raise
