"""What a worker has given up does not live on at the server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from procrastinate import core, exceptions
from procrastinate.adapters.connections import answer_timeout
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from tests.worker.running import connector_for, until

APPLICATION = "gives up"
WAITING = sa.text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND wait_event_type = 'Lock'")


@pytest.fixture
async def connector(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WorkerConnector]:
    """A worker's, which soon loses its patience."""
    monkeypatch.setattr(answer_timeout, "ANSWER_TIMEOUT", 0.3)
    connector = connector_for(database_url, APPLICATION)
    await connector.open_async()
    yield connector
    await connector.close_async()


async def test_a_statement_that_waits_for_a_lock_is_ended_with_the_patience_of_its_worker(
    connector: WorkerConnector, engine: sa.Engine, connection: sa.Connection
) -> None:
    """Each further try would leave one more process of the server behind, that waits for the same lock."""
    worker_id = core.register_worker(connection)
    with engine.begin() as user:
        user.exec_driver_sql("LOCK TABLE procrastinate_workers")
        for _ in range(2):
            with pytest.raises(exceptions.DatabaseUnavailable, match="not answered"):
                connector.run(core.update_heartbeat, worker_id)
            with pytest.raises(exceptions.DatabaseUnavailable, match="not answered"):
                await connector.run_async(core.update_heartbeat, worker_id)
        await until(lambda: connection.execute(WAITING, {"name": APPLICATION}).scalar_one() == 0)
    assert await connector.run_async(core.update_heartbeat, worker_id)
