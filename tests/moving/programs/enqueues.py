"""Defers a job with a queueing lock that both releases use, and again for each line that it reads."""

import sys

from plain_app import add, app

from procrastinate import exceptions


def defer():
    try:
        add.configure(queueing_lock="a lock of both", schedule_in={"days": 1}).defer(a=1, b=1)
    except exceptions.AlreadyEnqueued:
        return "AlreadyEnqueued"
    return "deferred"


with app.replace_connector(app.connector.get_sync_connector()), app.open():
    print(defer(), flush=True)
    for _ in sys.stdin:
        print(defer(), flush=True)
