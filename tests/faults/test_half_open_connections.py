"""3. A connection that stays open but silent is noticed in a bounded time, and no shutdown hangs."""

from __future__ import annotations

import pytest

from procrastinate.adapters.connections import answer_timeout, listen
from tests.faults.conftest import Report
from tests.faults.proxy import Proxy
from tests.faults.queue import Queue
from tests.faults.size import Size
from tests.faults.test_database_outages import database_of
from tests.faults.waiting import until
from tests.faults.worker_process import Fleet, WorkerProcess

_OF_WORKER = "SELECT client_port FROM pg_stat_activity WHERE application_name = 'silent' AND query LIKE :query"
_BEATS = "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > :since + interval '1 second'"
_LISTENS_AGAIN = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'silent' AND query LIKE 'LISTEN%' AND backend_start > :since
"""
_CONNECTIONS = {
    "that listens": "LISTEN%",
    "of the heartbeat": "UPDATE procrastinate_workers%",
    "that fetches": "%",
}


@pytest.fixture
def patience(size: Size) -> float | None:
    """Return the seconds that a server has to answer. In the full round it is the default of workers."""
    return None if size.full else 2.0


@pytest.fixture
def noticed_within(patience: float | None, size: Size) -> float:
    """Return the seconds that docs/reliability.md promises, as the longest of three limits, plus time to reconnect."""
    promised = max(answer_timeout.ANSWER_TIMEOUT, listen.PROBE_INTERVAL + listen.ANSWER_TIMEOUT)
    return (promised if patience is None else 2 * patience) + size.pick(20, 5)


@pytest.fixture
def worker(queue: Queue, proxy: Proxy, fleet: Fleet, patience: float | None) -> WorkerProcess:
    """Return a worker that connects through the proxy."""
    url = (
        f"host=127.0.0.1 port={proxy.port} user=postgres dbname={database_of(queue)} "
        "sslmode=disable gssencmode=disable application_name=silent connect_timeout=3"
    )
    return fleet.start_one(url=url, answer_timeout=patience, concurrency=2, stalled_worker_timeout=60.0)


def freeze(queue: Queue, proxy: Proxy, which: str) -> None:
    """Silence one of the worker's connections, or all of them."""
    if which == "all":
        proxy.freeze_all()
    elif which == "that fetches":
        others = {port_of(queue, query) for name, query in _CONNECTIONS.items() if name != which}
        for connection in list(proxy.connections):
            if connection.is_open and connection.port not in others:
                connection.freeze()
    else:
        proxy.by_server_port(port_of(queue, _CONNECTIONS[which])).freeze()


def port_of(queue: Queue, query: str) -> int:
    """Return the client port of the worker's connection whose last statement was `query`."""
    return int(until(lambda: queue.sql(_OF_WORKER, query=query), f"the worker has sent {query}"))


@pytest.mark.parametrize(
    "which", [*(pytest.param(which, marks=pytest.mark.full_round) for which in _CONNECTIONS), "all"]
)
def test_a_silent_connection_is_noticed_and_replaced(
    queue: Queue,
    proxy: Proxy,
    worker: WorkerProcess,
    size: Size,
    report: Report,
    noticed_within: float,
    which: str,
) -> None:
    jobs = size.count(5, 20)
    queue.defer_many("note", range(jobs))
    queue.is_empty()
    port_of(queue, "LISTEN%")
    queue.start_clock()
    since = queue.sql("SELECT clock_timestamp()")
    freeze(queue, proxy, which)
    queue.defer_many("note", range(jobs, 2 * jobs))
    queue.is_empty()
    until(lambda: queue.sql(_BEATS, since=since), "the heart beats again")
    if which in ("that listens", "all"):
        until(lambda: queue.sql(_LISTENS_AGAIN, since=since), "it listens on another connection")
    name = "All connections go" if which == "all" else f"The connection {which} goes"
    verdict = queue.verdict(2 * jobs)
    report(3, f"{name} silent, half open: noticed, and replaced", verdict)
    assert verdict.seconds < noticed_within
    worker.stop()


@pytest.mark.parametrize(
    "which", [*(pytest.param(which, marks=pytest.mark.full_round) for which in _CONNECTIONS), "all"]
)
def test_a_worker_whose_connections_are_silent_can_be_stopped(
    queue: Queue, proxy: Proxy, worker: WorkerProcess, size: Size, which: str
) -> None:
    queue.defer_many("note", range(3))
    queue.is_empty()
    freeze(queue, proxy, which)
    assert worker.stop() < size.pick(30, 60)
