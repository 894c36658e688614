"""2. A cluster of Patroni changes its leader under load. Commits are synchronous, so nothing may be lost or doubled."""

from __future__ import annotations

import itertools
import pathlib
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from procrastinate.worker.worker_settings import STALLED_WORKER_TIMEOUT
from tests import database
from tests.faults.conftest import LIVELY, Report
from tests.faults.ledger import Ledger, out_of_order, overlaps
from tests.faults.patroni import PatroniCluster
from tests.faults.program import Setup
from tests.faults.queue import Queue
from tests.faults.size import Size
from tests.faults.test_database_outages import assert_all_workers_survived, producing
from tests.faults.waiting import until
from tests.faults.worker_process import Fleet

pytestmark = [pytest.mark.full_round, pytest.mark.timeout(600)]

_PICK_UP = 2.0
"""Seconds after which workers run jobs again, once the cluster takes writes."""
_OPTIONS = {"stalled_worker_timeout": STALLED_WORKER_TIMEOUT, "concurrency": 5}
"""A failover takes longer than the lively workers of other tests wait for each other, and less than the default."""


@pytest.fixture(scope="module")
def patroni() -> Iterator[PatroniCluster]:
    cluster = PatroniCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture
def queue(patroni: PatroniCluster, ledger: Ledger, request: pytest.FixtureRequest) -> Iterator[Queue]:
    """A queue in a new database of the cluster, which is whole."""
    patroni.becomes_whole()
    name = f"faults_{abs(hash(request.node.name))}"
    patroni.execute(f"CREATE DATABASE {name}")
    url = patroni.conninfo(name).replace("postgresql:", "postgresql+psycopg:")
    database.migrate(url)
    queue = Queue(url, ledger)
    yield queue
    queue.close()


@pytest.fixture
def fleet(queue: Queue, ledger: Ledger, tmp_path: pathlib.Path) -> Iterator[Fleet]:
    setup = Setup(url=database.libpq_url(queue.url), ledger=ledger.url, options=LIVELY | _OPTIONS)
    fleet = Fleet(setup, tmp_path)
    yield fleet
    fleet.end_of_test()


class Probe:
    """Writes into the database again and again, as a program does that knows all members.

    Parameters
    ----------
    conninfo:
        The connection string of the workers.
    """

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._is_over = threading.Event()
        self.writes: list[float] = []
        """Times at which a write was committed."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def longest_gap(self, since: float) -> tuple[float, float]:
        """Return the longest time without a write after a moment, as its begin and end."""
        times = [since, *(one for one in self.writes if one > since)]
        return max(itertools.pairwise(times), key=lambda pair: pair[1] - pair[0])

    def stop(self) -> None:
        """Write no more."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(0.05):
            try:
                with psycopg.connect(self._conninfo) as connection:
                    connection.execute("SET LOCAL statement_timeout = '2s'")
                    connection.execute("SELECT pg_logical_emit_message(true, 'probe', '')")
                self.writes.append(time.time())
            except psycopg.Error:
                continue


def _goes_through(
    change: Callable[[], object],
    fault: str,
    *,
    patroni: PatroniCluster,
    queue: Queue,
    fleet: Fleet,
    report: Report,
    size: Size,
) -> None:
    """Change the leader under load. All jobs run once, and again within two seconds once the cluster takes writes."""
    jobs = size.count(300, 1500)
    fleet.start(3)
    probe = Probe(database.libpq_url(queue.url))
    former = patroni.leader()
    queue.start_clock()
    producer = producing(queue, jobs)
    queue.has_succeeded(jobs // 5)
    queue.defer_many("note", range(jobs, 2 * jobs), seconds=0.3)  # so that jobs wait when the cluster is back
    began = time.time()
    change()
    until(lambda: patroni.find_leader() not in (former, None), "another member leads", within=120)
    count = queue.ledger.starts()
    until(lambda: queue.ledger.starts() > count, "jobs start again")
    producer.join()
    queue.is_empty()
    probe.stop()
    report(2, fault, queue.verdict(2 * jobs))
    entries = queue.ledger.entries()
    assert overlaps(entries) == out_of_order(entries) == []
    assert_all_workers_survived(fleet)
    _, writable = probe.longest_gap(began)
    picked_up = queue.ledger.first_start_after(writable)
    assert picked_up - writable < _PICK_UP, (picked_up - writable, writable - began)


def test_workers_follow_when_the_leader_hands_over(
    patroni: PatroniCluster, queue: Queue, fleet: Fleet, report: Report, size: Size
) -> None:
    _goes_through(
        patroni.switch_over,
        "Patroni hands over to another member, under load",
        patroni=patroni,
        queue=queue,
        fleet=fleet,
        report=report,
        size=size,
    )


def test_workers_follow_when_the_leader_is_cut_off_from_the_etcd(
    patroni: PatroniCluster, queue: Queue, fleet: Fleet, report: Report, size: Size
) -> None:
    """Such a leader takes no writes any more, although programs reach it."""
    leader = patroni.leader()
    try:
        _goes_through(
            leader.cut_off,
            "Patroni's leader is cut off from the etcd, under load",
            patroni=patroni,
            queue=queue,
            fleet=fleet,
            report=report,
            size=size,
        )
    finally:
        leader.reconnect()


def test_workers_follow_when_the_leader_dies(
    patroni: PatroniCluster, queue: Queue, fleet: Fleet, report: Report, size: Size
) -> None:
    leader = patroni.leader()
    try:
        _goes_through(
            leader.kill,
            "Patroni's leader loses its power, under load",
            patroni=patroni,
            queue=queue,
            fleet=fleet,
            report=report,
            size=size,
        )
    finally:
        leader.start()
