"""``procrastinate dev``: for development, a worker that follows the code, with the dashboard next to it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Iterator

from procrastinate import exceptions
from procrastinate._text.logs import get_logger
from procrastinate._text.terminal import say
from procrastinate.app import App
from procrastinate.cli.arguments import add_argument, port
from procrastinate.cli.worker import add_worker_arguments, worker_command

logger = get_logger(__name__)

HANDLES_SIGNALS = True
_HOST = "127.0.0.1"


def add_dev_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`dev_command`: those of the worker, and those of the dashboard."""
    add_worker_arguments(parser)
    add_argument(
        parser, "--port", env="DASHBOARD_PORT", type=port, default=8080,
        help="port of the dashboard. If another program has it, any free one",
    )  # fmt: skip
    parser.add_argument("--no-dashboard", action="store_true", help="run the worker alone")


def dev_command(app: App, arguments: argparse.Namespace) -> None:
    """Run a worker that restarts when the code changes, and serve the dashboard on this machine, until Ctrl-C.

    The output of jobs is not buffered, and log records show the arguments of jobs unless the app says otherwise.
    """
    from procrastinate.worker import SupervisorSocket

    arguments.reload = getattr(arguments, "reload", True)
    if app.log_arguments is None:
        app.log_arguments = True
    if SupervisorSocket.is_in_environment():  # this is the worker, which the process below has started
        worker_command(app, arguments)
        return
    os.environ["PYTHONUNBUFFERED"] = "1"
    with contextlib.nullcontext() if arguments.no_dashboard else _dashboard(app, arguments.port):
        worker_command(app, arguments)


@contextlib.contextmanager
def _dashboard(app: App, port: int) -> Iterator[None]:
    """Serve the dashboard in a thread during the block."""
    from procrastinate.dashboard import server

    try:
        import procrastinate.dashboard.dashboard  # noqa: F401  # needs the extra
    except exceptions.MissingExtra as error:
        logger.warning("Running without the dashboard. %s", error, extra={"action": "dashboard_missing"})
        yield
        return
    app.perform_import_paths()
    with app.open():
        pages = server.protected(app, _HOST, None)
        try:
            listening = server.make(pages, _HOST, port)
        except OSError as error:
            logger.warning(
                "The dashboard gets another port: %s cannot be had (%s)",
                port,
                error.strerror,
                extra={"action": "dashboard_moved"},
            )
            listening = server.make(pages, _HOST, 0)
        with listening:
            threading.Thread(target=listening.serve_forever, name="procrastinate-dashboard", daemon=True).start()
            say(f"Dashboard: http://{_HOST}:{listening.server_port}/", sys.stderr)
            try:
                yield
            finally:
                listening.shutdown()
