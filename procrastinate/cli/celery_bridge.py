"""``procrastinate celery-bridge``."""

from __future__ import annotations

import argparse

from procrastinate._text.terminal import counted, say
from procrastinate.app import App
from procrastinate.cli.arguments import add_argument
from procrastinate.cli.stop_signals import stopped_by_signals

HANDLES_SIGNALS = True


def add_bridge_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`bridge_command`."""
    add_argument(
        parser,
        "--broker",
        env="CELERY_BROKER",
        is_secret=True,
        help="URL of Celery's broker. The variable keeps its password off the list of processes",
        metavar="URL",
    )
    parser.add_argument(
        "--queue", action="append", dest="queues", metavar="NAME", help="a queue of the broker; may be repeated"
    )
    parser.add_argument("--once", action="store_true", help="end when the queues are empty")


def bridge_command(app: App, arguments: argparse.Namespace) -> None:
    """Turn messages into jobs until SIGINT or SIGTERM, and say how many. A second signal ends a wait for the database.

    Raises
    ------
    ValueError
        No broker or no queue was given, or the broker's URL names no transport.
    MissingExtra
        The extra ``celery`` is not installed.
    LookupError
        A queue does not exist.
    """
    if not getattr(arguments, "broker", None):
        raise ValueError("No broker was given: use --broker, or the PROCRASTINATE_CELERY_BROKER environment variable")
    if not arguments.queues:
        raise ValueError("No queue was given: use --queue celery")
    from procrastinate.from_celery.bridge import Bridge, BridgeOptions

    app.perform_import_paths()
    bridge = Bridge(app, BridgeOptions(broker=arguments.broker, queues=arguments.queues, once=arguments.once))
    with app.open(), stopped_by_signals(bridge.stop):
        bridge.run()
    moved, left = bridge.counts["moved"], bridge.counts["left"]
    say(f"{counted(moved, 'message')} became {'a job' if moved == 1 else 'jobs'}, {left:,} went to other queues.")
