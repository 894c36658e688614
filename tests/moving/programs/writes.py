"""Defers jobs until it is terminated: every third one has a lock."""

import itertools
import signal
import time

from plain_app import app, notes

stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))

with app.replace_connector(app.connector.get_sync_connector()), app.open():
    for number in itertools.count():
        if stop:
            break
        if number % 3:
            notes.defer()
        else:
            lock = f"lock {number % 4}"
            notes.configure(lock=lock, priority=number % 2).defer(group=lock, seconds=0.005)
        time.sleep(0.01)
