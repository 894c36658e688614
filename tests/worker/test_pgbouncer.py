"""Workers behind PgBouncer in transaction mode: polling through it, or listening on a direct connection; with all
their connections there, or with the one that listens alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate.adapters.connections.conninfo import parse_conninfo
from procrastinate.adapters.standalone import SQLAlchemyConnector
from procrastinate.app import App
from procrastinate.retry import RetryStrategy
from tests import pgbouncer
from tests.database import libpq_url
from tests.worker.running import DEADLINE, Queue, until

_PAST_THE_POOLER = "past the pooler"
_QUERIES = sa.text("SELECT query FROM pg_stat_activity WHERE application_name = :name AND datname = current_database()")


def _without_name(direct: dict[str, Any]) -> dict[str, Any]:
    """The rest is as for the connections through the pooler."""
    return {name: value for name, value in direct.items() if name not in ("dbname", "user")}


@pytest.fixture
def pooled_url(database_url: str) -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory(prefix="pgbouncer-") as directory,
        pgbouncer.before(database_url, pathlib.Path(directory) / "run") as through,
    ):
        yield through


@pytest.mark.parametrize("passes_by", [None, "worker", "listener"])
async def test_a_worker_does_its_work(
    database_url: str, pooled_url: str, connection: sa.Connection, passes_by: str | None
) -> None:
    """Jobs under locks, retries, aborts, heartbeats: all that a worker writes."""
    listens = passes_by is not None
    direct = {**parse_conninfo(libpq_url(database_url)), "application_name": _PAST_THE_POOLER}
    connector = SQLAlchemyConnector(
        pooled_url,
        connect_args={"prepare_threshold": None},
        worker_connect_args=direct if passes_by == "worker" else None,
        listen_connect_args=_without_name(direct) if passes_by == "listener" else None,
    )
    app = App(connector=connector)

    @app.task(name="fail once", pass_context=True, retry=RetryStrategy(max_attempts=2, wait=0))
    async def fail_once(context: Any, number: int) -> None:
        if context.job.attempts == 0:
            raise ValueError(number)

    @app.task(name="endless")
    async def endless() -> None:
        await asyncio.sleep(600)

    queue = Queue(connection)
    async with app.open_async():
        options: dict[str, Any] = {
            "concurrency": 5,
            "listen_notify": listens,
            "fetch_job_polling_interval": 600 if listens else 0.1,
            "abort_job_polling_interval": 0.1,
            "update_heartbeat_interval": 0.2,
        }
        worker = asyncio.create_task(app.run_worker_async(install_signal_handlers=False, **options))
        if listens:
            await until(lambda: queue.sql("SELECT count(*) FROM pg_stat_activity WHERE query ~ '^LISTEN'"))
        await app.configure_task("fail once", lock="l").batch_defer_async(*({"number": n} for n in range(20)))
        endless_id = await endless.defer_async()
        await until(lambda: queue.statuses().get("succeeded") == 20)
        await until(lambda: queue.statuses().get("doing") == 1)
        await app.job_manager.cancel_job_by_id_async(endless_id, abort=True)
        await until(lambda: queue.statuses() == {"succeeded": 20, "aborted": 1})
        past_the_pooler = set(connection.execute(_QUERIES, {"name": _PAST_THE_POOLER}).scalars())
        if passes_by == "listener":
            (statement,) = past_the_pooler
            assert statement.startswith("LISTEN") or statement == "SELECT 1", (
                "it listens, and is asked whether it lives"
            )
        assert bool(past_the_pooler) == listens
        worker.cancel()
        async with asyncio.timeout(DEADLINE):
            with contextlib.suppress(asyncio.CancelledError):
                await worker
    assert queue.sql("SELECT count(*) FROM procrastinate_workers") == 0
    assert queue.sql("SELECT min(attempts) FROM procrastinate_jobs WHERE status = 'succeeded'") == 2
