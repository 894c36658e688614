"""1. A worker that is killed: its jobs run again on others, and a job that kills its workers comes to an end."""

from __future__ import annotations

import random
import time

import pytest

from tests.faults.conftest import LIVELY, Report
from tests.faults.queue import Queue
from tests.faults.size import Size
from tests.faults.waiting import until
from tests.faults.worker_process import Fleet

ENOUGH_RESCUES = 1000
A_MOMENT = 0.5
"""Seconds."""

_LAST_HEARTBEAT_OF_HOLDER = """
SELECT last_heartbeat FROM procrastinate_workers
WHERE id = (SELECT worker_id FROM procrastinate_jobs WHERE id = :id)
"""
_LAST_START = "SELECT max(at) FROM procrastinate_events WHERE job_id = :id AND type = 'started'"


def test_workers_that_are_killed_again_and_again_lose_no_job(
    queue: Queue, fleet: Fleet, size: Size, report: Report
) -> None:
    jobs, kills, concurrency = size.count(60, 600), size.count(3, 25), 4
    chance = random.Random(1)
    queue.defer_many("note", range(jobs), seconds=0.2)
    fleet.supervise(3, concurrency=concurrency, max_rescues=ENOUGH_RESCUES)
    for kill in range(kills):
        before = queue.ledger.starts()
        until(lambda before=before: queue.ledger.starts() > before, f"jobs run, before kill {kill}")  # type: ignore[misc]
        chance.choice(fleet.running()).kill()
        time.sleep(chance.uniform(0, 0.5))
    queue.is_empty(within=300)
    verdict = queue.verdict(jobs)
    report(1, f"A worker killed (SIGKILL) while it runs jobs, {kills} times", verdict, may_run_again=True)
    assert fleet.restarts >= kills - 1
    assert verdict.again <= kills * concurrency, "those that ran when their worker was killed, and no other"


def test_a_run_that_was_cut_short_counts_as_an_attempt_and_is_missed_in_time(
    queue: Queue, fleet: Fleet, size: Size
) -> None:
    """By the server's clock, from the last heartbeat to the second start."""
    job_id = queue.defer("wait_at_gate", 1, gate="gate")
    fleet.start_one()
    fleet.start_one(queues=["default"])
    queue.has_started(1)
    (worker,) = (one for one in fleet.workers if one.pid == queue.ledger.entries()[0].process)
    worker.kill()
    last_heartbeat = queue.sql(_LAST_HEARTBEAT_OF_HOLDER, id=job_id)
    queue.has_started(1, times=2)
    seconds = (queue.sql(_LAST_START, id=job_id) - last_heartbeat).total_seconds()
    queue.ledger.open_gate("gate")
    queue.becomes(job_id, "succeeded")
    assert queue.attempts(job_id) == 2
    heartbeat, timeout = LIVELY["update_heartbeat_interval"], LIVELY["stalled_worker_timeout"]
    assert timeout <= seconds < timeout + heartbeat + size.pick(10, A_MOMENT)


@pytest.mark.parametrize(
    ("task", "how"),
    [
        ("kill_worker", "kills its worker"),
        pytest.param("exit_process", "calls os._exit", marks=pytest.mark.full_round),
    ],
)
def test_a_job_that_kills_every_worker_fails_in_the_end_and_the_log_says_why(
    queue: Queue, fleet: Fleet, report: Report, task: str, how: str
) -> None:
    bad = queue.defer(task, 0)
    queue.defer_many("note", range(1, 21))
    fleet.supervise(2, max_rescues=2, concurrency=1)
    queue.becomes(bad, "failed")
    queue.is_empty()
    verdict = queue.verdict(21, recovered=queue.came_through() + 1)
    section = 1 if task == "kill_worker" else 8
    report(section, f"A job that {how} whenever it runs: failed after `max_rescues`", verdict, may_run_again=True)
    assert queue.ledger.starts(0) == 3
    given_up = [record for worker in fleet.workers for record in worker.records() if record["action"] == "job_given_up"]
    assert len(given_up) == 1, given_up
    assert "max_rescues" in given_up[0]["message"]
