"""2. The server stands still for a while, and goes on: no connection is lost, and no worker has died."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.queue import Queue
from tests.faults.size import Size
from tests.faults.waiting import until
from tests.faults.worker_process import Fleet

LIVELY = {"update_heartbeat_interval": 1.0, "stalled_worker_timeout": 3.0}
"""The ratio of the defaults."""
WORKERS, CONCURRENCY = 4, 2


@pytest.fixture
def postmaster(cluster: Cluster) -> Iterator[psutil.Process]:
    """The server's first process; it goes on in the end, whatever the test did."""
    postmaster = psutil.Process(int((cluster.directory / "postmaster.pid").read_text().split()[0]))
    yield postmaster
    resume(postmaster)


def freeze(postmaster: psutil.Process) -> None:
    """Stop the server as a stalled disk does, or a snapshot of its machine."""
    for process in [postmaster, *postmaster.children(recursive=True)]:
        process.suspend()


def resume(postmaster: psutil.Process) -> None:
    """Let it go on."""
    for process in [*postmaster.children(recursive=True), postmaster]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def test_a_server_that_stands_still_again_and_again_kills_no_worker(
    queue: Queue, fleet: Fleet, size: Size, report: Report, postmaster: psutil.Process
) -> None:
    """What was sent while it stood still is executed afterwards, by a clock that has gone on."""
    pauses, jobs = size.count(2, 10), WORKERS * CONCURRENCY
    fleet.start(WORKERS, concurrency=CONCURRENCY, **LIVELY)
    queue.start_clock()
    queue.defer_many("wait_at_gate", range(jobs), gate="still")
    until(lambda: queue.ledger.starts() == jobs, "all jobs run")
    for _ in range(pauses):
        time.sleep(LIVELY["stalled_worker_timeout"] + 1)  # they have watched each other for as long as they want
        freeze(postmaster)
        time.sleep(LIVELY["stalled_worker_timeout"] - 0.2)
        resume(postmaster)
    time.sleep(LIVELY["stalled_worker_timeout"])
    queue.ledger.open_gate("still")
    queue.is_empty()
    report(2, f"PostgreSQL stands still (SIGSTOP) for almost the stall timeout, {pauses} times", queue.verdict(jobs))
    fleet.each(lambda worker: worker.stop())
