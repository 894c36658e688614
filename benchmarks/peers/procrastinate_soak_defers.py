"""Defers jobs at a steady rate, in small batches, for a given time."""

from __future__ import annotations

import time

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import make_sync_app

_BATCH = 10

asked = driving.request()
app = make_sync_app(asked["url"])
deferrer = app.configure_task("soak")
batches = int(asked["rate"] * asked["seconds"]) // _BATCH
with app.open():
    driving.say("ready")
    driving.wait_for_word()
    began = time.time()
    for batch in range(batches):
        time.sleep(max(began + batch * _BATCH / asked["rate"] - time.time(), 0))
        now = time.time()
        deferrer.batch_defer(*[{"number": batch * _BATCH + place, "at": now} for place in range(_BATCH)])
    seconds = time.time() - began
driving.say("done", seconds=seconds)
