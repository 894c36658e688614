"""Defers one unique job at a time, compared with the defer of a job without a key.

Blocks of the two alternate, so that a disturbance affects both.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import add_noop_tasks, make_sync_app
from procrastinate import App, Unique
from procrastinate.jobs import JobDeferrer

_BLOCK = 50


def make_deferrers(app: App) -> dict[str, JobDeferrer]:
    """Return a deferrer for each way in which a unique job is deferred."""
    task = app.tasks["noop"]
    return {
        "new key": task.configure(unique=Unique()),
        "skip": task.configure(unique=Unique(by="held", on_conflict="skip")),
        "throttle": task.configure(unique=Unique(by="held for an hour", until={"hours": 1}, on_conflict="skip")),
        "debounce": task.configure(unique=Unique(by="waits", on_conflict="replace", max_wait={"hours": 1})),
        "queueing lock": task.configure(queueing_lock="held", on_conflict="skip"),
    }


def time_blocks(jobs: int, *actions: Callable[[int], int]) -> list[float]:
    """Return the total seconds of each action."""
    seconds = [0.0] * len(actions)
    for first in range(0, jobs, _BLOCK):
        for index, action in enumerate(actions):
            began = time.perf_counter()
            for number in range(first, first + _BLOCK):
                action(number)
            seconds[index] += time.perf_counter() - began
    return seconds


def main() -> None:
    asked = driving.request()
    app = make_sync_app(asked["url"])
    add_noop_tasks(app, driving.Effects(0))
    driving.say("ready")
    driving.wait_for_word()
    with app.open():
        plain, unique = app.tasks["noop"], make_deferrers(app)[asked["way"]]

        def defer_plain(number: int) -> int:
            return plain.defer(number=number)

        def defer_unique(number: int) -> int:
            return unique.defer(number=number)

        time_blocks(_BLOCK, defer_plain, lambda number: defer_unique(-number - 1))
        without_key, with_key = time_blocks(asked["jobs"], defer_plain, defer_unique)
    driving.say("done", plain=without_key, unique=with_key)


main()
