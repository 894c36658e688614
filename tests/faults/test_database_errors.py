"""6. Any error of the database is retried or reported, and kills no worker."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.proxy import Proxy
from tests.faults.queue import Queue
from tests.faults.size import Size
from tests.faults.test_database_outages import assert_all_workers_survived, database_of
from tests.faults.waiting import until
from tests.faults.worker_process import Fleet

_ACCIDENTS = """
CREATE FUNCTION have_accident() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF random() < 0.2 THEN RAISE EXCEPTION 'an accident' USING errcode = '{code}'; END IF;
    RETURN NULL;
END $$
"""
_WHEREVER = """
CREATE TRIGGER accident AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION have_accident()
"""
_TABLES = ("procrastinate_jobs", "procrastinate_workers")


@dataclasses.dataclass(frozen=True)
class Accident:
    """An error that PostgreSQL raises at random."""

    code: str
    name: str


ACCIDENTS = [
    Accident("40P01", "Deadlocks"),
    Accident("40001", "Serialization failures"),
    Accident("53100", "Disk full"),
]


@pytest.mark.parametrize(
    "accident",
    [ACCIDENTS[0], *(pytest.param(accident, marks=pytest.mark.full_round) for accident in ACCIDENTS[1:])],
    ids=lambda accident: accident.code,
)
def test_errors_now_and_then_wherever_workers_write(
    queue: Queue, fleet: Fleet, size: Size, report: Report, accident: Accident
) -> None:
    jobs = size.count(30, 600)
    fleet.start(2, concurrency=3)  # start first, because a worker fails at an error during its start
    queue.sql(_ACCIDENTS.format(code=accident.code))
    for table in _TABLES:
        queue.sql(_WHEREVER.format(table=table))
    queue.start_clock()
    for number in range(jobs):
        until(lambda number=number: queue.defer("note", number), f"job {number} is deferred")  # type: ignore[misc]
    queue.is_empty()
    report(6, f"{accident.name} ({accident.code}), in a fifth of the workers' writes", queue.verdict(jobs))
    assert fleet.actions()["record_outcomes_error"] + fleet.actions()["fetch_jobs_error"] > 0
    assert_all_workers_survived(fleet)


def assert_reported(fleet: Fleet, error: str) -> None:
    """Check that workers met the fault and logged it."""
    assert any(error in record["message"] for worker in fleet.workers for record in worker.records())


def with_setting(queue: Queue, cluster: Cluster, *settings: str) -> str:
    """Return a URL whose connections have server settings."""
    options = " ".join(f"-c {setting}" for setting in settings)
    return f"host=127.0.0.1 port={cluster.port} user=postgres dbname={database_of(queue)} options='{options}'"


@pytest.mark.full_round
def test_a_statement_timeout(queue: Queue, cluster: Cluster, fleet: Fleet, size: Size, report: Report) -> None:
    """The table is locked repeatedly, for longer than the timeout."""
    jobs = size.count(30, 600)
    queue.defer_many("note", range(jobs))
    fleet.start(2, concurrency=3, url=with_setting(queue, cluster, "statement_timeout=150ms"))
    queue.start_clock()
    for _ in range(size.count(2, 20)):
        queue.sql("LOCK TABLE procrastinate_jobs; SELECT pg_sleep(0.4)")
    queue.is_empty()
    report(6, "`statement_timeout`: the table is locked for longer, again and again", queue.verdict(jobs))
    assert_reported(fleet, "statement timeout")
    assert_all_workers_survived(fleet)


@pytest.mark.full_round
def test_an_idle_in_transaction_timeout(
    queue: Queue, cluster: Cluster, fleet: Fleet, size: Size, report: Report
) -> None:
    """While a task blocks the event loop, the worker's own transactions stay open.

    At READ COMMITTED nearly all that it does is one statement or one pipeline, which no loop can leave open.
    """
    jobs = size.count(6, 60)
    settings = ("idle_in_transaction_session_timeout=100ms", "default_transaction_read_only=on")
    fleet.start(2, concurrency=3, url=with_setting(queue, cluster, *settings))
    queue.start_clock()
    for number in range(jobs):
        queue.defer("block_loop" if number % 2 else "fail_once", number, **({"seconds": 0.3} if number % 2 else {}))
    queue.is_empty()
    verdict = queue.verdict(jobs)
    report(6, "`idle_in_transaction_session_timeout`, with tasks that block the loop", verdict, may_run_again=True)
    assert verdict.again == jobs // 2, "those that fail once, and no other"
    assert fleet.actions()["record_outcomes_error"] + fleet.actions()["fetch_jobs_error"] > 0
    assert_all_workers_survived(fleet)


@pytest.mark.full_round
def test_too_many_connections(queue: Queue, cluster: Cluster, fleet: Fleet, size: Size, report: Report) -> None:
    """The worker's connections are terminated, and it gets no new ones for a while."""
    jobs = size.count(20, 400)
    name = database_of(queue)
    cluster.execute("CREATE ROLE crowded LOGIN SUPERUSER")
    cluster.execute("ALTER ROLE crowded NOSUPERUSER")
    try:
        for kind in ("TABLES", "SEQUENCES"):
            queue.sql(f"GRANT ALL ON ALL {kind} IN SCHEMA public TO crowded")
        url = f"host=127.0.0.1 port={cluster.port} user=crowded dbname={name}"
        fleet.start(2, concurrency=3, url=url)
        queue.start_clock()
        cluster.execute("ALTER ROLE crowded CONNECTION LIMIT 0")
        cluster.terminate_backends()
        queue.defer_many("note", range(jobs))
        until(lambda: fleet.actions()["fetch_jobs_error"] >= 2, "workers cannot connect")
        cluster.execute("ALTER ROLE crowded CONNECTION LIMIT -1")
        queue.is_empty()
        report(6, "Too many connections: none for the workers, until two fetches fail", queue.verdict(jobs))
        assert_all_workers_survived(fleet)
    finally:
        queue.sql("DROP OWNED BY crowded")
        cluster.terminate_backends()
        cluster.execute("DROP ROLE crowded")


def test_a_server_that_takes_no_writes(
    queue: Queue,
    cluster: Cluster,
    fleet: Fleet,
    proxy: Proxy,
    size: Size,
    report: Report,
    standby: Callable[[], Cluster],
) -> None:
    """The workers' connections lead to a standby for a while, which raises 25006."""
    jobs = size.count(20, 400)
    url = f"host=127.0.0.1 port={proxy.port} user=postgres dbname={database_of(queue)} sslmode=disable"
    fleet.start(2, concurrency=3, url=url)
    queue.defer_many("wait_at_gate", range(6), gate="open")
    until(lambda: queue.ledger.starts() == 6, "all slots are taken")
    reader = standby()
    queue.start_clock()
    queue.defer_many("note", range(6, jobs))
    proxy.lead_to(reader.port)
    queue.ledger.open_gate("open")
    until(lambda: fleet.actions()["record_outcomes_error"] >= 2, "workers cannot write")
    assert_reported(fleet, "read-only")
    proxy.lead_to(cluster.port)
    queue.is_empty()
    report(6, "A read-only standby in the server's place, until two writes fail", queue.verdict(jobs))
    assert_all_workers_survived(fleet)
