"""7. Workers behind PgBouncer in transaction mode, which is restarted now and then."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator

import pytest

from tests import pgbouncer
from tests.database import libpq_url
from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.queue import Queue
from tests.faults.size import Size
from tests.faults.test_database_outages import (
    MORE_THAN_AN_OUTAGE,
    assert_all_workers_survived,
    assert_in_order,
    producing,
)
from tests.faults.waiting import until
from tests.faults.worker_process import Fleet

_LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'past the pooler'"


@pytest.fixture
def pooler(queue: Queue) -> Iterator[pgbouncer.Pooler]:
    """Return a pooler in front of the faulty server."""
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as directory:
        pooler = pgbouncer.Pooler(queue.url, pathlib.Path(directory) / "run")
        pooler.start()
        yield pooler
        pooler.stop()


@pytest.mark.parametrize("listens", [pytest.param(False, marks=pytest.mark.full_round), True], ids=["polls", "listens"])
def test_workers_behind_pgbouncer(
    cluster: Cluster, queue: Queue, fleet: Fleet, pooler: pgbouncer.Pooler, size: Size, report: Report, listens: bool
) -> None:
    """Workers poll, or listen on a direct connection."""
    jobs, restarts = size.count(60, 1500), size.count(2, 10)
    past_it = f"host=127.0.0.1 port={cluster.port} application_name='past the pooler'"
    options = {"listen_notify": listens, "fetch_job_polling_interval": 1.0} | MORE_THAN_AN_OUTAGE
    fleet.start(2, concurrency=5, url=libpq_url(pooler.url), listen=past_it if listens else None, **options)
    if listens:
        until(lambda: queue.sql(_LISTENERS) == 2, "both listen")
    queue.start_clock()
    producer = producing(queue, jobs)
    for restart in range(1, restarts + 1):
        queue.has_succeeded(jobs * restart // (restarts + 1))
        pooler.stop()
        pooler.start()
    producer.join()
    queue.is_empty()
    assert queue.sql(_LISTENERS) == (2 if listens else 0)
    how = "LISTEN past it" if listens else "polling"
    report(7, f"PgBouncer (transaction mode, {how}) restarted, {restarts} times", queue.verdict(jobs))
    assert_in_order(queue)
    assert_all_workers_survived(fleet)
