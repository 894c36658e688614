"""Defers a timed job at intervals, and reports when each was committed, or when it falls due."""

from __future__ import annotations

import datetime
import random
import time

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import add_timed_task, make_sync_app

asked = driving.request()
app = make_sync_app(asked["url"])
add_timed_task(app, [])
task = app.tasks["timed"]
expected = []
with app.open():
    driving.say("ready")
    driving.wait_for_word()
    for number in range(asked["jobs"]):
        if "due_in" in asked:
            due = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=asked["due_in"] * random.random())
            task.configure(schedule_at=due).defer(number=number)
            expected.append((number, due.timestamp()))
        else:
            task.defer(number=number)
            expected.append((number, time.time()))
            time.sleep(asked["gap"] * (0.5 + random.random()))
    time.sleep(asked.get("due_in", 0) + 1)
driving.say("done", expected=expected)
