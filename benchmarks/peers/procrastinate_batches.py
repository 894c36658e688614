"""Defers many jobs per call."""

from __future__ import annotations

import time

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import add_noop_tasks, make_sync_app

asked = driving.request()
app = make_sync_app(asked["url"])
add_noop_tasks(app, driving.Effects(0))
task = app.tasks["noop"]
with app.open():
    task.batch_defer({"number": 0})
    driving.say("ready")
    driving.wait_for_word()
    began = time.perf_counter()
    for first in range(0, asked["jobs"], asked["batch"]):
        task.batch_defer(*[{"number": number} for number in range(first, first + asked["batch"])])
    seconds = time.perf_counter() - began
driving.say("done", seconds=seconds, rows=1 + asked["jobs"])
