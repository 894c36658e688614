"""Defers from several processes at once, with one job per transaction.

Each job has a unique number. The warm-up jobs are deferred before the program reports that it is ready.
"""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import add_noop_tasks, make_sync_app


def write(url: str, numbers: range, warm_up: int, together: Barrier, spans: SimpleQueue[tuple[float, float]]) -> None:
    """Run one writer: connect, warm up, wait for the other writers and the suite, and defer."""
    app = make_sync_app(url)
    add_noop_tasks(app, driving.Effects(0))
    task = app.tasks["noop"]
    with app.open():
        for number in numbers[:warm_up]:
            task.defer(number=number)
        together.wait()
        together.wait()
        began = time.time()
        for number in numbers[warm_up:]:
            task.defer(number=number)
        spans.put((began, time.time()))


def main() -> None:
    asked = driving.request()
    context = multiprocessing.get_context("fork")
    together = context.Barrier(asked["writers"] + 1)
    spans: SimpleQueue[tuple[float, float]] = context.SimpleQueue()
    each = asked["warm_up"] + asked["jobs"]
    rows = asked["writers"] * each
    arguments = (asked["warm_up"], together, spans)
    writers = [
        context.Process(target=write, args=(asked["url"], range(first, first + each), *arguments))
        for first in range(0, rows, each)
    ]
    for writer in writers:
        writer.start()
    together.wait()
    driving.say("ready")
    driving.wait_for_word()
    together.wait()
    measured = [spans.get() for _ in writers]
    for writer in writers:
        writer.join()
    began_at = min(began for began, _ in measured)
    driving.say("done", began_at=began_at, seconds=max(end for _, end in measured) - began_at, rows=rows)


main()
