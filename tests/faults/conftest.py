"""A server that may be broken, a queue on it, a ledger elsewhere, workers, and the report."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Callable, Generator, Iterator

import pytest

from tests import database
from tests.faults.cluster import Cluster
from tests.faults.ledger import Ledger
from tests.faults.program import Setup
from tests.faults.proxy import Proxy
from tests.faults.queue import Queue
from tests.faults.size import RESULTS_VARIABLE, Size
from tests.faults.verdict import Row, Verdict
from tests.faults.worker_process import Fleet

Report = Callable[..., None]

_PASSED = pytest.StashKey[bool]()

LIVELY = {"update_heartbeat_interval": 0.3, "stalled_worker_timeout": 3.0, "fetch_job_polling_interval": 1.0}
"""Options of workers that miss each other sooner than usual."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The shortened round is a part of the test suite; the rest needs ``make test-faults``."""
    if Size.of_this_run().full:
        return
    left_out = [item for item in items if item.get_closest_marker("full_round")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Lets fixtures know, at their end, whether the test passed."""
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    return report


@pytest.fixture(scope="session")
def own_server() -> Iterator[Cluster]:
    """The server of this process that faults happen to."""
    cluster = Cluster(pathlib.Path(tempfile.mkdtemp(prefix="procrastinate-faults-")))
    cluster.initialise()
    cluster.start()
    yield cluster
    cluster.remove()


@pytest.fixture
def cluster(own_server: Cluster) -> Iterator[Cluster]:
    """The same, running at the start and at the end of each test."""
    yield own_server
    if not own_server.is_running:
        own_server.start()


@pytest.fixture(scope="session")
def own_databases(own_server: Cluster) -> Iterator[database.Databases]:
    """Where the databases on it come from."""
    databases = database.Databases(own_server.url, "faults")
    yield databases
    databases.close()


@pytest.fixture
def ledger(databases: database.Databases) -> Iterator[Ledger]:
    """A book on the shared test server, which no fault reaches."""
    url = databases.create_empty()
    ledger = Ledger(database.libpq_url(url))
    ledger.create()
    yield ledger
    ledger.close()
    databases.drop(url)


@pytest.fixture
def queue(cluster: Cluster, own_databases: database.Databases, ledger: Ledger) -> Iterator[Queue]:
    """A queue on the server that faults happen to."""
    url = own_databases.create_migrated()
    queue = Queue(url, ledger)
    yield queue
    queue.close()
    if not cluster.is_running:
        cluster.start()
    own_databases.drop(url)


@pytest.fixture
def fleet(queue: Queue, ledger: Ledger, tmp_path: pathlib.Path) -> Iterator[Fleet]:
    """Starts workers for the queue."""
    setup = Setup(url=database.libpq_url(queue.url), ledger=ledger.url, options=dict(LIVELY))
    fleet = Fleet(setup, tmp_path)
    yield fleet
    fleet.end_of_test()


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    """A door to the server."""
    proxy = Proxy(cluster.port)
    yield proxy
    proxy.close()


@pytest.fixture
def standby(cluster: Cluster) -> Iterator[Callable[[], Cluster]]:
    """Makes a standby of the server; in the end the server is alone again, with what it had."""
    standbys: list[Cluster] = []

    def make() -> Cluster:
        directory = pathlib.Path(f"{cluster.directory}-standby")
        standbys.append(cluster.make_standby(directory))
        return standbys[0]

    yield make
    for one in standbys:
        one.remove()
    if not cluster.is_running:
        (cluster.directory / "postgresql.auto.conf").write_text("")
        cluster.start()
    else:
        cluster.execute("ALTER SYSTEM RESET synchronous_standby_names")
        cluster.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="session")
def size() -> Size:
    """How much of everything."""
    return Size.of_this_run()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    """Checks a verdict, and writes it into the results of the run where all else that the test checks is right, too."""
    rows: list[Row] = []

    def check_and_keep(section: int, fault: str, verdict: Verdict, *, may_run_again: bool = False) -> None:
        verdict.check(may_run_again=may_run_again)
        rows.append(Row(section, fault, verdict))

    yield check_and_keep
    results = os.environ.get(RESULTS_VARIABLE)
    if results and request.node.stash.get(_PASSED, False):
        with open(results, "a") as file:
            file.writelines(f"{row.as_json()}\n" for row in rows)
