"""2. The database goes away: workers survive, jobs go on, and jobs that end during the outage are not run again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from tests.database import libpq_url
from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.ledger import out_of_order, overlaps
from tests.faults.queue import Queue
from tests.faults.size import Size
from tests.faults.waiting import until
from tests.faults.worker_process import Fleet

MORE_THAN_AN_OUTAGE = {"stalled_worker_timeout": 30.0}
_LOCKS = 7


def producing(queue: Queue, jobs: int) -> threading.Thread:
    """Defer jobs one after the other, despite errors. After a lost answer, check for the job before the next try."""

    def is_there(number: int) -> bool:
        known = "SELECT count(*) FROM procrastinate_jobs WHERE (args->>'number')::int = :number"
        return bool(queue.sql(known, number=number))

    def defer(number: int) -> bool:
        return is_there(number) or bool(queue.defer("note", number, lock=lock_of(number), seconds=0.02))

    def produce() -> None:
        for number in range(jobs):
            until(lambda number=number: defer(number), f"job {number} is deferred", within=300)  # type: ignore[misc]

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    return thread


def lock_of(number: int) -> str:
    return f"lock {number % _LOCKS}"


def assert_in_order(queue: Queue) -> None:
    """Check that the jobs of each lock ran one after another, in the order of their deferral."""
    entries = queue.ledger.entries()
    assert len({entry.lock for entry in entries}) == _LOCKS
    assert overlaps(entries) == []
    assert out_of_order(entries) == []


def assert_all_workers_survived(fleet: Fleet) -> None:
    assert len(fleet.running()) == len(fleet.workers)
    fleet.each(lambda worker: worker.stop())


def test_a_server_that_crashes_again_and_again(
    cluster: Cluster, queue: Queue, fleet: Fleet, size: Size, report: Report
) -> None:
    jobs, crashes = size.count(100, 1500), size.count(2, 10)
    fleet.start(2, concurrency=5, **MORE_THAN_AN_OUTAGE)
    queue.start_clock()
    producer = producing(queue, jobs)
    for crash in range(1, crashes + 1):
        queue.has_succeeded(jobs * crash // (crashes + 1))
        cluster.restart("immediate")
    producer.join()
    queue.is_empty()
    report(2, f"PostgreSQL crashes and restarts (`immediate`), {crashes} times", queue.verdict(jobs))
    assert_in_order(queue)
    assert_all_workers_survived(fleet)


def test_jobs_that_end_while_the_server_is_away_are_recorded_afterwards(
    cluster: Cluster, queue: Queue, fleet: Fleet, size: Size, report: Report
) -> None:
    """The outage is longer than the stall timeout."""
    jobs, seconds = size.count(10, 40), size.pick(4, 30)
    queue.defer_many("wait_at_gate", range(jobs), gate="outage")
    fleet.start(2, concurrency=jobs // 2)
    until(lambda: queue.ledger.starts() == jobs, "all jobs run")
    queue.start_clock()
    cluster.stop()
    queue.ledger.open_gate("outage")
    time.sleep(seconds)
    assert sum(entry.moment == "end" for entry in queue.ledger.entries()) == jobs
    cluster.start()
    queue.is_empty()
    report(2, f"PostgreSQL stopped for {seconds:g} s, and all jobs end in that time", queue.verdict(jobs))
    assert_all_workers_survived(fleet)


@pytest.mark.full_round
def test_every_connection_terminated_again_and_again(
    cluster: Cluster, queue: Queue, fleet: Fleet, size: Size, report: Report
) -> None:
    """This interrupts defers, fetches, outcomes and heartbeats."""
    jobs, seconds = size.count(150, 3000), size.pick(3, 60)
    fleet.start(2, concurrency=5)
    queue.start_clock()
    producer = producing(queue, jobs)
    terminated, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        terminated += cluster.terminate_backends()
        time.sleep(0.2)
    producer.join()
    queue.is_empty()
    report(2, f"Every connection terminated five times a second for {seconds:g} s", queue.verdict(jobs))
    assert_in_order(queue)
    assert terminated > 0
    assert_all_workers_survived(fleet)


def test_workers_follow_to_the_promoted_replica(
    cluster: Cluster, queue: Queue, fleet: Fleet, size: Size, report: Report, standby: Callable[[], Cluster]
) -> None:
    jobs = size.count(60, 600)
    for number in range(jobs):
        queue.defer("note", number, lock=lock_of(number), seconds=0.05)
    replica = standby()
    both = f"host=127.0.0.1,127.0.0.1 port={cluster.port},{replica.port} user=postgres target_session_attrs=read-write"
    fleet.start(2, concurrency=3, url=f"{both} dbname={database_of(queue)}", **MORE_THAN_AN_OUTAGE)
    queue.has_succeeded(jobs // 4)
    queue.start_clock()
    cluster.stop("immediate")
    replica.promote()
    there = Queue(f"{replica.url.set(database=database_of(queue)).render_as_string()}", queue.ledger)
    try:
        there.is_empty()
        report(2, "Failover to a replica (synchronous), which is promoted", there.verdict(jobs))
        assert_in_order(there)
        assert_all_workers_survived(fleet)
    finally:
        there.close()


def database_of(queue: Queue) -> str:
    return libpq_url(queue.url).rpartition("/")[2]
