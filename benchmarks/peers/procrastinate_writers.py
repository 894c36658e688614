"""Defers from several processes at once, one job a transaction."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import add_noop_tasks, make_sync_app


def write(url: str, jobs: int, start: Barrier, spans: SimpleQueue[tuple[float, float]]) -> None:
    """One writer: it connects, waits for the others, and defers."""
    app = make_sync_app(url)
    add_noop_tasks(app, driving.Effects(0))
    task = app.tasks["noop"]
    with app.open():
        for _ in range(10):
            task.defer(number=0)
        start.wait()
        began = time.time()
        for number in range(jobs):
            task.defer(number=number)
        spans.put((began, time.time()))


def main() -> None:
    asked = driving.request()
    context = multiprocessing.get_context("fork")
    start = context.Barrier(asked["writers"] + 1)
    spans: SimpleQueue[tuple[float, float]] = context.SimpleQueue()
    arguments = (asked["url"], asked["jobs"], start, spans)
    writers = [context.Process(target=write, args=arguments) for _ in range(asked["writers"])]
    for writer in writers:
        writer.start()
    driving.say("ready")
    driving.wait_for_word()
    start.wait()
    measured = [spans.get() for _ in writers]
    for writer in writers:
        writer.join()
    seconds = max(end for _, end in measured) - min(began for began, _ in measured)
    driving.say("done", seconds=seconds, rows=asked["writers"] * (asked["jobs"] + 10))


main()
