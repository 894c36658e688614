"""The sub-command ``dashboard``."""

from __future__ import annotations

import argparse

from procrastinate.app import App
from procrastinate.cli.arguments import add_argument, port


def add_dashboard_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command."""
    add_argument(
        parser, "--host", env="DASHBOARD_HOST", default="127.0.0.1",
        help="address to listen on. Any other than this machine's own needs PROCRASTINATE_DASHBOARD_USER and "
        "PROCRASTINATE_DASHBOARD_PASSWORD",
    )  # fmt: skip
    add_argument(
        parser, "--port", env="DASHBOARD_PORT", type=port, default=8080, help="port to listen on, 0 for any free one"
    )
    parser.add_argument("--read-only", action="store_true", help="offer and accept no action")
    parser.add_argument("--title", default="Procrastinate", help="name in the header of each page")


def dashboard_command(app: App, arguments: argparse.Namespace) -> None:
    """Serve the dashboard until Ctrl-C."""
    from procrastinate.dashboard import server

    app.perform_import_paths()
    login = server.Login.from_environment()
    with app.open():
        application = server.protected(app, arguments.host, login, title=arguments.title, read_only=arguments.read_only)
        server.serve(application, arguments.host, arguments.port, what="Dashboard")
