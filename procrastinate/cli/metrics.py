"""The sub-command ``metrics``."""

from __future__ import annotations

import argparse

from procrastinate.app import App
from procrastinate.cli.arguments import add_argument, port


def add_metrics_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command."""
    add_argument(
        parser, "--host", env="METRICS_HOST", help="address to listen on", otherwise="127.0.0.1", default="127.0.0.1"
    )
    add_argument(
        parser, "--port", env="METRICS_PORT", help="port to listen on, 0 for any free one", otherwise="9464",
        type=port, default=9464,
    )  # fmt: skip
    add_argument(
        parser, "--token", env="METRICS_TOKEN", default=None, is_secret=True,
        help="answer only requests with this bearer token. Prefer the environment variable, which other users of the "
        "machine cannot see",
    )  # fmt: skip
    parser.add_argument("--public", action="store_true", help="answer other machines without a token")


def metrics_command(app: App, arguments: argparse.Namespace) -> None:
    """Serve the metrics until Ctrl-C.

    Raises
    ------
    ValueError
        Other machines can reach the address, and there is no token.
    """
    from procrastinate.dashboard import server
    from procrastinate.metrics import metrics_wsgi

    host = arguments.host
    if arguments.token is None and not arguments.public and host not in server.LOCAL:
        raise ValueError(f"Other machines can reach {host}: set PROCRASTINATE_METRICS_TOKEN, or add --public")
    with app.open():
        application = metrics_wsgi(app, token=arguments.token)
        server.serve(application, host, arguments.port, what="Metrics", path="/metrics")
