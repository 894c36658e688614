"""A worker prepares statements on a session of its own, and none behind a pooler."""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from tests import pgbouncer
from tests.database import libpq_url


def look(connection: sa.Connection) -> tuple[int, str]:
    """How many statements are prepared in this session, and how it plans."""
    text = "SELECT count(*), current_setting('plan_cache_mode') FROM pg_prepared_statements"
    number, mode = connection.exec_driver_sql(text).one()
    return number, mode


def after_a_heartbeat(connector: WorkerConnector) -> tuple[int, str]:
    connector.open()
    try:
        connector.run(core.update_heartbeat, 1)
        return connector.run(look)
    finally:
        connector.close()


def test_a_worker_prepares_what_it_runs_again_and_again(database_url: str) -> None:
    assert after_a_heartbeat(WorkerConnector(libpq_url(database_url))) == (1, "force_generic_plan")


async def test_a_worker_prepares_statements_on_the_event_loop_as_well(database_url: str) -> None:
    connector = WorkerConnector(libpq_url(database_url))
    await connector.open_async()
    try:
        assert await connector.run_async(core.fetch_jobs, worker_id=1, limit=1) == []
        assert await connector.run_async(look) == (1, "force_generic_plan")
    finally:
        await connector.close_async()


def test_a_worker_prepares_nothing_behind_a_pooler(database_url: str) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="pgbouncer-") as directory,
        pgbouncer.before(database_url, pathlib.Path(directory) / "run") as through,
    ):
        assert after_a_heartbeat(WorkerConnector(libpq_url(through))) == (0, "auto")


def test_a_worker_prepares_nothing_if_the_user_forbids_it(database_url: str) -> None:
    connector = WorkerConnector({"conninfo": libpq_url(database_url), "prepare_threshold": None})
    assert after_a_heartbeat(connector)[0] == 0


@pytest.mark.parametrize("change", ["DEALLOCATE ALL", "ALTER TABLE procrastinate_jobs ALTER task_name TYPE text"])
def test_a_worker_goes_on_if_a_prepared_statement_is_lost(database_url: str, change: str) -> None:
    """The first operation fails as if the connection were lost, and the worker tries it again."""
    connector = WorkerConnector(libpq_url(database_url))
    connector.open()

    def fetch() -> Any:
        return connector.run(core.fetch_jobs, worker_id=1, limit=1)

    def alter(connection: sa.Connection) -> None:
        driver: Any = connection.connection.driver_connection
        if change.startswith("ALTER"):
            with psycopg.connect(libpq_url(database_url), autocommit=True) as other:
                other.execute(change)
        else:
            driver.pgconn.exec_(change.encode())  # past psycopg, which would forget its statements

    try:
        assert fetch() == []
        connector.run(alter)
        with pytest.raises(Exception, match=r"prepared statement|cached plan"):
            fetch()
        assert fetch() == []
    finally:
        connector.close()
