"""5. A worker that is busy for longer than the stall timeout is not dead: nothing runs twice."""

from __future__ import annotations

import time

import pytest

from tests.faults.conftest import LIVELY, Report
from tests.faults.queue import Queue
from tests.faults.size import Size
from tests.faults.waiting import until
from tests.faults.worker_process import Fleet

TIMEOUT = LIVELY["stalled_worker_timeout"]


@pytest.mark.parametrize(
    ("task", "what"),
    [
        ("block_loop", "blocks the event loop"),
        pytest.param("hold_gil", "holds the GIL, in pieces,", marks=pytest.mark.full_round),
    ],
)
def test_a_task_that_keeps_its_process_busy_runs_once(
    queue: Queue, fleet: Fleet, size: Size, report: Report, task: str, what: str
) -> None:
    seconds = size.pick(TIMEOUT + 1.5, 3 * TIMEOUT)
    fleet.start_one(queues=["other"])
    fleet.start_one()
    queue.start_clock()
    queue.defer_many(task, range(size.count(1, 3)), seconds=seconds)
    queue.is_empty()
    report(5, f"A task {what} for longer than the stall timeout", queue.verdict(size.count(1, 3)))


@pytest.mark.full_round
def test_a_drain_that_takes_longer_than_the_stall_timeout(
    queue: Queue, fleet: Fleet, size: Size, report: Report
) -> None:
    jobs, seconds = size.count(3, 20), size.pick(TIMEOUT + 1.5, 3 * TIMEOUT)
    queue.defer_many("wait_at_gate", range(jobs), gate="drained")
    draining = fleet.start_one(concurrency=jobs)
    until(lambda: queue.ledger.starts() == jobs, "all jobs run")
    fleet.start_one(concurrency=jobs)
    queue.start_clock()
    draining.terminate()
    time.sleep(seconds)
    queue.ledger.open_gate("drained")
    queue.is_empty()
    report(5, "A worker drains for longer than the stall timeout", queue.verdict(jobs))
    until(lambda: draining.exit_code == 0, "it ends")
