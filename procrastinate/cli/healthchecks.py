"""``procrastinate healthchecks``."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterable, Iterator

from procrastinate import exceptions
from procrastinate._durations import duration
from procrastinate._text.terminal import say, write
from procrastinate.app import App
from procrastinate.cli.arguments import given_name
from procrastinate.cli.waits import database_awaited
from procrastinate.core.workers_of_host import HostWorker, list_workers_of_host

_ANY = True
"""What the option is without a name."""


def add_healthchecks_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`healthchecks_command`."""
    parser.add_argument(
        "--worker",
        nargs="?",
        const=_ANY,
        type=given_name,
        metavar="NAME",
        help="check the workers that run on this machine or in this container, or the one with this name",
    )


def healthchecks_command(app: App, arguments: argparse.Namespace) -> None:
    """Check the app and its database, or the workers of this host, and print a line for each successful check.

    Raises
    ------
    ConnectorException
        The database cannot be reached, or its schema is missing, outdated, or from Procrastinate 3.x.
    ProcrastinateException
        With ``--worker``: no worker runs here, or one of them is not healthy.
    """
    if arguments.worker is not None:
        with database_awaited(), app.open():
            check_workers_of_host(app, "" if arguments.worker is _ANY else arguments.worker)
        return
    app.perform_import_paths()
    write("App configuration: OK")
    with database_awaited(), app.open():
        app.check_connection()
        write("DB connection: OK")
        app.schema_manager.check_schema()
        write("Found procrastinate_jobs table: OK")


def check_workers_of_host(app: App, name: str) -> None:
    """Check that workers run on this host, and that each has a recent heartbeat, an event loop that turns and a slot.

    Parameters
    ----------
    name:
        The name of the worker to check. With several processes it stands for all of them. Empty for all workers.

    Raises
    ------
    ProcrastinateException
        No such worker runs here, or one of them is not healthy.
    """
    found = app.connector.run(list_workers_of_host, platform.node())
    mine = [worker for worker in found if _is_meant(worker, name) and _is_running(worker.pid)]
    if not mine:
        which = f"worker {name!r}" if name else "worker"
        raise exceptions.ProcrastinateException(
            f"No {which} of this host ({platform.node()}) is registered: it has not started, or its process has ended"
        )
    faults = list(_faults(mine))
    if faults:
        raise exceptions.ProcrastinateException("\n".join(faults))
    for worker in mine:
        say(f"Worker {worker.name}, process {worker.pid}: OK, heartbeat {duration(max(worker.silent, 0))} ago")


def _is_meant(worker: HostWorker, name: str) -> bool:
    return not name or worker.name == name or worker.name.startswith(f"{name}.")


def _is_running(pid: int) -> bool:
    """Return false if no process has this id. The row of a worker that was killed stays until others remove it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _faults(workers: Iterable[HostWorker]) -> Iterator[str]:
    for worker in workers:
        title = f"Worker {worker.name}, process {worker.pid}"
        if worker.silent > worker.patience:
            yield f"{title}: no heartbeat for {duration(worker.silent)}"
        elif worker.blocked_for > worker.patience:
            yield f"{title}: a job has blocked the event loop for {duration(worker.blocked_for)}"
        elif worker.has_lost_all_slots:
            yield f"{title}: starts no job, because threads of jobs that have timed out go on in all its slots"
