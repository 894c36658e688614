"""The queue moves to a new server by logical replication, with the statements of docs/operations.md."""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

import procrastinate
from tests.database import Databases, libpq_url, migrate, url_text
from tests.documentation.blocks import blocks_of
from tests.documentation.shell import wait_until
from tests.faults.cluster import Cluster
from tests.schema.dumps import run_script, run_tool

pytestmark = pytest.mark.timeout(120)

PAGE = "docs/operations.md"
OLD = "host=old dbname=shop user=postgres"


@pytest.fixture
def clusters(databases: Databases) -> Iterator[tuple[Cluster, Cluster]]:
    """The old server, which sends its changes, and the new one."""
    with contextlib.ExitStack() as stack:
        old, new = (Cluster(pathlib.Path(tempfile.mkdtemp(prefix="procrastinate-servers-"))) for _ in range(2))
        for cluster in (old, new):
            stack.callback(cluster.remove)
            cluster.initialise()
            with (cluster.directory / "postgresql.conf").open("a") as settings:
                settings.write("wal_level = logical\n")
            cluster.start()
        yield old, new


def test_a_queue_moves_to_a_new_server(clusters: tuple[Cluster, Cluster]) -> None:
    old, new = clusters
    migrate(url_text(old.url))
    with _app(old).open() as app:
        done = app.configure_task("work").defer(value="done")
        app.run_worker(wait=False, install_signal_handlers=False)
        history = _history(old)

        run_script(url_text(new.url), run_tool("pg_dump", "--schema-only", f"--dbname={libpq_url(url_text(old.url))}"))
        old.execute(_statement("CREATE PUBLICATION"))
        subscribe = _statement("CREATE SUBSCRIPTION")
        assert OLD in subscribe
        new.execute(subscribe.replace(OLD, f"host=127.0.0.1 port={old.port} dbname=postgres user=postgres"))
        wait_until(lambda: new.execute(_statement("SELECT count(*) FROM pg_subscription_rel")) == 0, lambda: _log(new))
        waiting = app.configure_task("work").defer(value="waiting")  # while the servers are connected

    end = old.execute("SELECT pg_current_wal_lsn()::text")
    wait_until(
        lambda: old.execute("SELECT bool_and(replay_lsn >= CAST(:end AS pg_lsn)) FROM pg_stat_replication", end=end),
        lambda: _log(old),
    )
    for statement in _all(old, _statement("SELECT 'SELECT setval(")):
        new.execute(statement)
    new.execute("DROP SUBSCRIPTION upgrade")

    assert _history(new)[: len(history)] == history
    with _app(new).open() as app:
        assert app.configure_task("work").defer(value="new") == waiting + 1
        app.run_worker(wait=False, install_signal_handlers=False)
        jobs = {job.id: job.status for job in app.job_manager.list_jobs()}
    assert jobs == dict.fromkeys([done, waiting, waiting + 1], "succeeded")
    assert sorted(_history(new)[len(history) :]) == sorted(
        f"{job_id} {kind}" for kind in ("deferred", "started", "succeeded") for job_id in (waiting, waiting + 1)
    )


def _app(cluster: Cluster) -> procrastinate.App:
    app = procrastinate.App(connector=libpq_url(url_text(cluster.url)))

    @app.task(name="work")
    def work(value: str) -> None: ...

    return app


def _statement(start: str) -> str:
    """Return the statement of the page that begins so."""
    (text,) = (block.text for block in blocks_of(PAGE) if block.text.startswith(start))
    return text.strip().removesuffix(";")


def _history(cluster: Cluster) -> list[str]:
    """Return the events of all jobs, in order."""
    return _all(cluster, "SELECT job_id || ' ' || type FROM procrastinate_events ORDER BY id")


def _all(cluster: Cluster, statement: str) -> list[str]:
    engine = sa.create_engine(cluster.url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return list(connection.exec_driver_sql(statement).scalars())


def _log(cluster: Cluster) -> str:
    return (cluster.directory / "log").read_text()
