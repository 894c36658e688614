"""10. Many workers at once: locks hold, order holds, each job runs once; and at least once where workers die."""

from __future__ import annotations

import random
import signal

import pytest

from tests.faults.conftest import Report
from tests.faults.ledger import cut_off, out_of_order, overlaps
from tests.faults.queue import Queue
from tests.faults.size import Size
from tests.faults.test_killed_workers import ENOUGH_RESCUES
from tests.faults.worker_process import Fleet

_LONG = 1800.0


def locked_jobs(
    queue: Queue, jobs: int, locks: int, *, kill: frozenset[int] = frozenset(), seconds: float | None = None
) -> None:
    """Defer jobs, of which every one-in-so-many shares a lock. Those to kill have their worker killed once."""
    insert = """
        INSERT INTO procrastinate_jobs (queue_name, task_name, lock, args)
        SELECT 'default', CASE WHEN number = ANY (:kill) THEN 'kill_worker_once' ELSE 'note' END,
               'lock ' || number % :locks,
               jsonb_strip_nulls(jsonb_build_object('number', number, 'seconds', CAST(:seconds AS float8)))
        FROM generate_series(0, :jobs - 1) AS number
    """
    queue.sql(insert, jobs=jobs, locks=locks, kill=sorted(kill), seconds=seconds)


def test_no_lock_is_held_twice_and_each_job_runs_once(queue: Queue, fleet: Fleet, size: Size, report: Report) -> None:
    workers, jobs, locks = size.count(3, 8), size.count(600, 20_000), size.count(30, 500)
    # Eight on a small machine: none may take another for dead because it has to wait for the processor. The jobs come
    # when all are ready, and take a moment. Otherwise two workers may run them all.
    fleet.start(workers, concurrency=10, stalled_worker_timeout=60.0)
    queue.start_clock()
    locked_jobs(queue, jobs, locks, seconds=0.02)
    queue.is_empty(within=_LONG)
    entries = queue.ledger.entries()
    report(10, f"{workers} workers at once, {locks} locks", queue.verdict(jobs))
    assert overlaps(entries) == []
    assert out_of_order(entries) == []
    assert len({entry.process for entry in entries}) == workers


@pytest.mark.full_round
def test_no_lock_is_held_twice_where_workers_are_killed(queue: Queue, fleet: Fleet, size: Size, report: Report) -> None:
    workers, jobs, locks, concurrency = size.count(3, 8), size.count(100, 4_000), size.count(10, 500), 5
    kill = frozenset(random.Random(5).sample(range(jobs), jobs // 20))
    locked_jobs(queue, jobs, locks, kill=kill)
    queue.start_clock()
    options = {"concurrency": concurrency, "max_rescues": ENOUGH_RESCUES}
    fleet.supervise(workers, **options, stalled_worker_timeout=size.pick(3.0, 10.0))
    queue.is_empty(within=_LONG)
    entries = queue.ledger.entries()
    verdict = queue.verdict(jobs)
    report(10, f"The same, and 5 % of the jobs kill their worker ({len(kill)} kills)", verdict, may_run_again=True)
    assert overlaps(entries) == []
    assert out_of_order(entries) == []
    assert sum(worker.exit_code == -signal.SIGKILL for worker in fleet.workers) == len(kill)
    assert cut_off(entries) <= len(kill) * concurrency, "those that ran when their worker was killed, and no other"
    # Of a busy worker, the outcomes of the last two milliseconds are not written yet.
    assert verdict.again <= 2 * len(kill) * concurrency
