"""Runs the worker of ``procrastinate worker``: in this process, or in several under a supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import Callable
from typing import TypeAlias

from procrastinate import exceptions
from procrastinate._text.logs import get_logger
from procrastinate.app import App
from procrastinate.cli import banner
from procrastinate.cli.arguments import misspelt_variables
from procrastinate.cli.event_loop import loop_factory
from procrastinate.cli.reload import run_with_reload
from procrastinate.cli.source_files import changes_of_code
from procrastinate.cli.stop_signals import sigterm_exits
from procrastinate.worker import WORKER_NAME, CommandSettings, Supervisor, SupervisorSocket, Worker, WorkerOptions
from procrastinate.worker.processes import signals
from procrastinate.worker.processes.supervisor_socket import Word

logger = get_logger(__name__)

_About: TypeAlias = Callable[[Worker], banner.WorkerDescription]


def run_worker(app: App, settings: CommandSettings, options: WorkerOptions, *, path: str | None) -> None:
    """Run a worker or a supervisor until it stops, in an event loop of its own.

    Parameters
    ----------
    path:
        The path by which the command found the app, if it was given.
    """
    if not SupervisorSocket.is_in_environment():
        _tell_misspelt_variables()
    make_loop = loop_factory(settings.uvloop)
    with contextlib.ExitStack() as stack:
        stack.enter_context(signals.sole_purpose())
        if _is_supervisor(settings):
            make_loop = None  # a supervisor only waits for its processes
            stack.enter_context(sigterm_exits())  # while none of them runs
        runner = stack.enter_context(asyncio.Runner(loop_factory=make_loop))
        runner.run(run_worker_async(app, settings, options, path=path))


def _tell_misspelt_variables() -> None:
    for variable, known in misspelt_variables("WORKER").items():
        extra = {"action": "misspelt_variable", "variable": variable}
        logger.warning("The environment variable %s has no effect: write %s", variable, known, extra=extra)


async def run_worker_async(app: App, settings: CommandSettings, options: WorkerOptions, *, path: str | None) -> None:
    """Do the same as :func:`run_worker`, in the running event loop."""
    if not _is_supervisor(settings):
        about = functools.partial(banner.describe_worker, app, path=path, processes=settings.processes)
        await _run_worker(app, options, about, SupervisorSocket.from_environment())
        return
    replace = options.get("wait", app.worker_defaults.get("wait", True))

    def make_supervisor() -> Supervisor:
        return Supervisor(_this_command(), settings.processes, replace=replace)

    if settings.reload:
        await run_with_reload(make_supervisor, changes_of_code())
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
