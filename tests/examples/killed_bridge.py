"""A bridge that dies when its first jobs are committed; and what makes its message visible to others."""

from __future__ import annotations

import os
import signal
import sys

import kombu

from examples.celery_app.after.project import app
from procrastinate.from_celery.bridge import Bridge, BridgeOptions

BROKER = os.environ["CELERY_BROKER"]


def die(queue: str) -> None:
    """Run a bridge that cannot acknowledge."""
    kombu.Message.ack = kombu.message.Message.ack = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    app.perform_import_paths()
    with app.open():
        Bridge(app, BridgeOptions(broker=BROKER, queues=[queue])).run()


def restore() -> None:
    """Give back what a dead consumer has not acknowledged, without the wait of an hour."""
    with kombu.Connection(BROKER, transport_options={"visibility_timeout": 0}) as connection:
        connection.default_channel.qos.restore_visible(num=100)


if __name__ == "__main__":
    restore() if sys.argv[1] == "restore" else die(sys.argv[1])
