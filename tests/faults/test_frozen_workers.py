"""4. A worker that is frozen past its timeout, and resumed: its late outcome is refused, and it goes on."""

from __future__ import annotations

from tests.faults.conftest import Report
from tests.faults.queue import Queue
from tests.faults.size import Size
from tests.faults.waiting import until
from tests.faults.worker_process import Fleet


def test_a_frozen_worker_loses_its_jobs_and_goes_on(queue: Queue, fleet: Fleet, size: Size, report: Report) -> None:
    jobs = size.count(3, 20)
    queue.defer_many("wait_at_gate", range(jobs), gate="thaw")
    frozen = fleet.start_one(concurrency=jobs)
    until(lambda: queue.ledger.starts() == jobs, "all jobs run")
    queue.start_clock()
    frozen.freeze()
    fleet.start_one(concurrency=jobs, queues=["default"])
    until(lambda: queue.ledger.starts() == 2 * jobs, "another has taken them")
    frozen.resume()
    frozen.logs("worker_registered_again")
    queue.ledger.open_gate("thaw")
    queue.is_empty()
    frozen.logs("outcome_refused")
    elsewhere = queue.defer("note", jobs, queue="elsewhere")
    queue.becomes(elsewhere, "succeeded")  # only the one that was frozen takes it
    seconds = fleet.workers[0].actions()["outcome_refused"]
    assert seconds == jobs
    report(4, "A worker frozen (SIGSTOP) past its timeout, and resumed", queue.verdict(jobs + 1), may_run_again=True)
    fleet.each(lambda worker: worker.stop())
