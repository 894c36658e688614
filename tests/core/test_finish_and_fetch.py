"""One round trip that records outcomes and takes the next jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core, exceptions
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.core import FinishedJob, LimitDefinition, Status
from tests.conformance.steps import query
from tests.database import libpq_url, new_job


@pytest.fixture
async def connector(database_url: str) -> AsyncIterator[WorkerConnector]:
    connector = WorkerConnector(libpq_url(database_url))
    await connector.open_async()
    yield connector
    await connector.close_async()


@pytest.fixture
def worker_id(connection: sa.Connection) -> int:
    return core.register_worker(connection)


@pytest.fixture
def ids(connection: sa.Connection, worker_id: int) -> list[int]:
    """Four jobs of a limit of one, of which the first runs."""
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=1)])
    ids = core.defer_jobs(connection, [new_job(limit_name="l", limit_key="k")] * 4)
    with connection.engine.begin() as other:
        core.admit_jobs(other)
    assert [job.id for job in core.fetch_jobs(connection, worker_id=worker_id, limit=1)] == ids[:1]
    return ids


def ended(job_id: int, **options: Any) -> FinishedJob:
    return FinishedJob(id=job_id, attempts=0, status=Status.SUCCEEDED, **options)


async def both(connector: WorkerConnector, worker_id: int, *finished: FinishedJob) -> core.FinishedAndFetched | None:
    return await connector.run_async(core.finish_and_fetch_jobs, finished, worker_id=worker_id, limit=5)


def running(connection: sa.Connection) -> list[int]:
    rows = query(connection, "SELECT id FROM procrastinate_jobs WHERE status = 'doing' ORDER BY id")
    return [job_id for (job_id,) in rows]


@pytest.mark.parametrize("delete", [False, True])
async def test_the_fetch_takes_the_job_that_got_the_slot(
    connection: sa.Connection, connector: WorkerConnector, worker_id: int, ids: list[int], delete: bool
) -> None:
    done = await both(connector, worker_id, ended(ids[0], delete=delete))
    assert done is not None
    assert done.recorded == {ids[0]}
    assert [(job.id, job.worker_id, job.limit_name) for job in done.fetched] == [(ids[1], worker_id, "l")]
    assert running(connection) == [ids[1]]


async def test_an_outcome_of_a_lost_job_is_not_recorded_and_ready_jobs_are_taken(
    connection: sa.Connection, connector: WorkerConnector, worker_id: int, ids: list[int]
) -> None:
    other = core.defer_job(connection, new_job())
    done = await both(connector, worker_id + 1, ended(ids[0]))
    assert done == core.FinishedAndFetched(recorded=set(), fetched=[])
    done = await both(connector, worker_id, ended(ids[1]))
    assert done is not None
    assert (done.recorded, [job.id for job in done.fetched]) == (set(), [other])


async def test_nothing_is_recorded_if_the_fetch_fails(
    connection: sa.Connection, connector: WorkerConnector, worker_id: int, ids: list[int]
) -> None:
    query(
        connection,
        "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$",
    )
    query(
        connection,
        "CREATE TRIGGER refuses BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW "
        "WHEN (NEW.status = 'doing') EXECUTE FUNCTION refuses()",
    )
    with pytest.raises(exceptions.ConnectorException):
        await both(connector, worker_id, ended(ids[0]))
    assert running(connection) == ids[:1]
    query(connection, "DROP TRIGGER refuses ON procrastinate_jobs")
    done = await both(connector, worker_id, ended(ids[0]))
    assert done is not None
    assert done.recorded == {ids[0]}


async def test_a_commit_that_fails_is_told_and_leaves_a_connection_that_works(
    connection: sa.Connection, connector: WorkerConnector, worker_id: int, ids: list[int]
) -> None:
    """A deferred constraint is checked at the commit, when each statement has had its answer."""
    query(connection, "CREATE TABLE notes (job_id bigint REFERENCES procrastinate_jobs DEFERRABLE INITIALLY DEFERRED)")
    query(connection, "INSERT INTO notes VALUES (:id)", id=ids[0])
    for _ in range(2):
        with pytest.raises(exceptions.ConnectorException, match="notes_job_id_fkey"):
            await both(connector, worker_id, ended(ids[0], delete=True))
    assert running(connection) == ids[:1]
    done = await both(connector, worker_id, ended(ids[0]))
    assert done is not None
    assert (done.recorded, [job.id for job in done.fetched]) == ({ids[0]}, [ids[1]])


async def test_a_row_that_another_session_has_locked_is_left_alone(
    connection: sa.Connection, connector: WorkerConnector, worker_id: int, ids: list[int]
) -> None:
    with connection.engine.begin() as users:
        users.execute(sa.text("SELECT FROM procrastinate_jobs WHERE id = :id FOR UPDATE"), {"id": ids[0]})
        done = await both(connector, worker_id, ended(ids[0]))
    assert done == core.FinishedAndFetched(recorded=set(), fetched=[])
    assert running(connection) == ids[:1]


async def test_an_outcome_and_a_fetch_take_one_transaction(
    connection: sa.Connection, connector: WorkerConnector, worker_id: int
) -> None:
    ids = core.defer_jobs(connection, [new_job()] * 2)
    assert len(core.fetch_jobs(connection, worker_id=worker_id, limit=1)) == 1
    await both(connector, worker_id, ended(ids[0]))
    rows = query(connection, "SELECT DISTINCT xmin::text FROM procrastinate_jobs")
    assert len(rows) == 1


def test_a_connection_that_cannot_do_both_at_once_does_nothing(
    connection: sa.Connection, worker_id: int, ids: list[int]
) -> None:
    assert core.finish_and_fetch_jobs(connection, [ended(ids[0])], worker_id=worker_id, limit=1) is None
    assert running(connection) == ids[:1]


def test_outcomes_with_details_take_a_statement_of_their_own() -> None:
    assert core.can_finish_and_fetch([ended(1), ended(2, delete=True, result="1")])
    assert not core.can_finish_and_fetch([ended(1), ended(2, result="1")])
    assert not core.can_finish_and_fetch([ended(1, announce=True)])
