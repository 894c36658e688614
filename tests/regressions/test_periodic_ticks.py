"""Periodic tasks after a restart, and many of them (13)."""

from __future__ import annotations

from typing import Any

from procrastinate.app import App
from tests.worker.running import Queue, Workers, until


async def test_ticks_go_on_after_a_restart_though_their_jobs_are_gone(app: App, workers: Workers, queue: Queue) -> None:
    """Fault 13. On 3.10.0 as here, a tick whose job was deleted is not deferred a second time: a tick runs once, and
    that is wanted. Here too a worker that comes after finds the next tick, whatever became of the last one's job.
    """
    seen: list[int] = []
    task: Any = app.task(name="tick")(lambda timestamp: seen.append(timestamp))
    app.periodic(cron="* * * * * *")(task)
    for _ in range(2):
        known = len(seen)
        running = workers.start(delete_jobs="always")
        await until(lambda known=known: len(seen) > known)  # type: ignore[misc]
        await running.stopped()
        assert queue.statuses() in ({}, {"todo": 1})
    assert len(seen) == len(set(seen))


async def test_all_of_many_periodic_tasks_are_deferred(app: App, workers: Workers, queue: Queue) -> None:
    """Fault 13. That 3.10.0 left out some of more than 70 (#1464) was not seen: 100 of 100 were deferred."""
    for number in range(100):
        task: Any = app.task(name=f"tick {number}", queue="ticks")(lambda timestamp: None)
        app.periodic(cron="0 0 1 * *")(task)
    app.periodic_defaults = {"max_delay": 10**9}
    workers.start(queues=["others"])
    await until(lambda: queue.statuses() == {"todo": 100})
