"""8. A job that is rotten spoils nothing but itself."""

from __future__ import annotations

from tests.faults.conftest import Report
from tests.faults.queue import Queue
from tests.faults.size import Size
from tests.faults.worker_process import Fleet

_RAISES = ("SystemExit", "KeyboardInterrupt", "RecursionError", "MemoryError")
_TEN_MEGABYTES = 10_000_000


def test_poison_jobs_fail_and_the_others_go_on(queue: Queue, fleet: Fleet, size: Size, report: Report) -> None:
    rounds = size.count(2, 50)
    poison = 0
    for number in range(0, rounds * 100, 100):
        queue.defer("no_such_task", number)
        queue.defer("note", number + 1, unknown_argument=True)
        for offset, how in enumerate(_RAISES):
            queue.defer("misbehave", number + 10 + offset, how=how)
            queue.defer("misbehave_in_thread", number + 20 + offset, how=how)
        poison += 2 + 2 * len(_RAISES)
        queue.defer_many("note", range(number + 30, number + 40))
    large = size.count(1, 5)
    for number in range(large):
        queue.defer("weigh", -1 - number, data="x" * _TEN_MEGABYTES, length=_TEN_MEGABYTES)
    good = 10 * rounds + large
    queue.start_clock()
    fleet.start(2, concurrency=3, unknown_task_timeout=0)
    queue.is_empty()
    statuses = queue.statuses()
    recovered = min(statuses["failed"], poison) + min(queue.came_through(), good)
    report(8, "Poison jobs among others, with arguments of 10 MB", queue.verdict(poison + good, recovered=recovered))
    assert statuses == {"failed": poison, "succeeded": good}
    assert len(fleet.running()) == 2
    fleet.each(lambda worker: worker.stop())
