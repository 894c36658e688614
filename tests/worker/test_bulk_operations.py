"""Workers go on with operations on many jobs."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.app import App
from procrastinate.core import bulk
from procrastinate.core.inspection import JobSearch, JobState
from procrastinate.core.open_operations import KINDS
from procrastinate.manager import JobManager
from procrastinate.worker.services.bulk_work import BulkWork
from procrastinate.worker.services.watch_duty import WatchDuty
from tests import database
from tests.worker.running import Queue, Workers, until

OFTEN = {"update_heartbeat_interval": 0.2, "stalled_worker_timeout": 30}
WAITING = JobSearch(state=JobState.READY, queue="served by none")


async def test_a_worker_goes_on_with_operations_in_turn(
    app: App, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker serves another queue than that of the jobs."""
    monkeypatch.setattr(bulk, "CHANGED_AT_ONCE", 2)
    task = app.configure_task("task", queue=WAITING.queue)
    ids = [await task.defer_async() for _ in range(5)]
    operations = [bulk.start_bulk_operation(queue.connection, "cancel", WAITING) for _ in range(2)]
    assert await app.connector.run_async(bulk.step_bulk_operation, operations[0])
    workers.start(queues=["other"], **OFTEN)
    await until(lambda: core.list_open_operations(queue.connection) == [])
    assert queue.statuses() == {"cancelled": len(ids)}
    assert queue.sql("SELECT sum(done) FROM procrastinate_operations") == len(ids)


async def test_an_operation_that_cannot_go_on_does_not_hold_up_the_others(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    await app.configure_task("task", queue=WAITING.queue).defer_async()
    columns = "(kind, filter, reached_id, last_id)"
    insert = f"INSERT INTO procrastinate_operations {columns} VALUES ('cancel', CAST(:search AS jsonb), 0, 9)"  # noqa: S608
    queue.sql(insert, search='{"of": "a later release"}')
    queue.sql(insert, search='{"state": "ready", "args": "no JSON"}')
    bulk.start_bulk_operation(queue.connection, "cancel", WAITING)
    with caplog.at_level(logging.WARNING):
        workers.start(queues=["other"], **OFTEN)
        await until(lambda: queue.statuses() == {"cancelled": 1})
    assert [record for record in caplog.records if record.__dict__.get("action") == "bulk_operation"]


@pytest.fixture
def role(queue: Queue) -> Iterator[str]:
    """A role of this session that may change jobs and not delete them."""
    name = f"changer_{uuid.uuid4().hex}"
    queue.sql(f"CREATE ROLE {name}")
    queue.sql(f"GRANT SELECT, UPDATE ON procrastinate_jobs, procrastinate_operations TO {name}")
    queue.sql(f"SET ROLE {name}")
    yield name
    queue.sql("RESET ROLE")
    queue.sql(f"DROP OWNED BY {name}")
    queue.sql(f"DROP ROLE {name}")


async def test_a_role_that_may_not_delete_jobs_leaves_such_operations_to_others(queue: Queue, role: str) -> None:
    insert = "INSERT INTO procrastinate_operations (kind) VALUES (:kind) RETURNING id"
    queue.sql("RESET ROLE")
    cancels, deletes = queue.sql(insert, kind="cancel"), queue.sql(insert, kind="delete")
    assert core.list_open_operations(queue.connection) == [cancels, deletes]
    queue.sql(f"SET ROLE {role}")
    assert core.list_open_operations(queue.connection) == [cancels]


async def test_an_operation_of_a_later_release_does_not_hold_up_the_others(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    await app.configure_task("task", queue=WAITING.queue).defer_async()
    later, incomplete, own = [bulk.start_bulk_operation(queue.connection, "cancel", WAITING) for _ in range(3)]
    queue.sql("UPDATE procrastinate_operations SET kind = 'of a later release' WHERE id = :id", id=later)
    queue.sql("UPDATE procrastinate_operations SET reached_id = NULL, last_id = NULL WHERE id = :id", id=incomplete)
    with caplog.at_level(logging.WARNING):
        workers.start(queues=["other"], **OFTEN)
        await until(lambda: core.list_open_operations(queue.connection) == [])
    assert queue.statuses() == {"cancelled": 1}
    assert queue.sql("SELECT done FROM procrastinate_operations WHERE id = :id", id=own) == 1
    assert not [record for record in caplog.records if record.__dict__.get("action") == "side_task_failed"]


@pytest.mark.parametrize(
    "change", ["kind = 'of a later release'", """filter = '{"of": "a later release"}'"""], ids=["kind", "search"]
)
async def test_a_hundred_operations_of_a_later_release_hide_none_that_comes_after_them(
    app: App, workers: Workers, queue: Queue, change: str
) -> None:
    await app.configure_task("task", queue=WAITING.queue).defer_async()
    for _ in range(100):
        bulk.start_bulk_operation(queue.connection, "cancel", WAITING)
    queue.sql(f"UPDATE procrastinate_operations SET {change}")  # noqa: S608
    own = bulk.start_bulk_operation(queue.connection, "cancel", WAITING)
    workers.start(queues=["other"], **OFTEN)
    await until(lambda: queue.statuses() == {"cancelled": 1})
    done = "SELECT state FROM procrastinate_operations WHERE id = :id"
    await until(lambda: queue.sql(done, id=own) == "done")


def test_each_kind_of_operation_has_its_change() -> None:
    assert tuple(bulk._CHANGES) == KINDS


async def test_a_worker_that_may_not_read_operations_says_so_once_and_works_on_them_once_it_may(
    app: App, queue: Queue, database_url: str, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    await app.configure_task("task", queue=WAITING.queue).defer_async()
    queue.sql("RESET ROLE")
    queue.sql(f"GRANT INSERT ON procrastinate_events TO {role}")
    queue.sql(f"REVOKE SELECT ON procrastinate_operations FROM {role}")  # noqa: S608
    bulk.start_bulk_operation(queue.connection, "cancel", WAITING)
    options = {"conninfo": database.libpq_url(database_url), "options": f"-c role={role}"}
    looks: list[None] = []

    class Manager(JobManager):
        async def list_open_operations(self, *, after: int = 0) -> list[int]:
            looks.append(None)
            return await super().list_open_operations(after=after)

    restricted = App(connector=WorkerConnector(options))
    async with restricted.open_async():
        manager = Manager(restricted.connector)
        working = asyncio.create_task(BulkWork(manager, WatchDuty(0.01), logging.getLogger(__name__)).run())
        await until(lambda: len(looks) > 2)
        assert [vars(record).get("action") for record in caplog.records].count("bulk_operation") == 1
        queue.sql(f"GRANT SELECT ON procrastinate_operations TO {role}")
        await until(lambda: core.list_open_operations(queue.connection) == [])
        working.cancel()
    assert queue.statuses() == {"cancelled": 1}


async def test_a_row_that_a_user_keeps_locked_is_skipped_and_told(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    task = app.configure_task("task", queue=WAITING.queue)
    first, held, last = [await task.defer_async() for _ in range(3)]
    operations = [bulk.start_bulk_operation(queue.connection, "cancel", WAITING) for _ in range(2)]
    with engine.begin() as user:
        user.execute(sa.text("SELECT FROM procrastinate_jobs WHERE id = :id FOR UPDATE"), {"id": held})
        workers.start(queues=["other"], **OFTEN)
        await until(lambda: core.list_open_operations(queue.connection) == [])
    assert [queue.status(job_id) for job_id in (first, held, last)] == ["cancelled", "todo", "cancelled"]
    (done,) = await app.connector.run_async(bulk.load_bulk_operations, operations[0])
    assert (done.changed, done.skipped) == (2, 1)
    assert done.error == f"job {held}: another session has locked its row"


def test_a_deletion_between_two_statements_hides_no_job_from_a_step(
    queue: Queue, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The jobs that a statement has examined in vain are deleted before the next statement."""
    monkeypatch.setattr(bulk, "REACH", 3)
    insert = "INSERT INTO procrastinate_jobs (queue_name, task_name) SELECT :queue, 'task' FROM generate_series(1, 3)"
    queue.sql(insert, queue="another")
    queue.sql(insert, queue=WAITING.queue)
    queue.sql(insert, queue=WAITING.queue)  # too many for one look along the index
    operation = bulk.start_bulk_operation(queue.connection, "cancel", WAITING)

    def delete_others(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "examined" in statement:
            queue.sql("DELETE FROM procrastinate_jobs WHERE queue_name = 'another'")

    with engine.connect() as connection:
        sa.event.listen(connection, "after_cursor_execute", delete_others)
        while True:
            with connection.begin():
                if not bulk.step_bulk_operation(connection, operation):
                    break
    assert queue.statuses() == {"cancelled": 6}


async def test_an_operation_reaches_jobs_whose_id_plain_sql_has_stored(
    app: App, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No sequence gives an id below 1. A change of all jobs changes them as well."""
    monkeypatch.setattr(bulk, "CHANGED_AT_ONCE", 2)
    ids = (-(2**63) + 2, -7, 0)
    for job_id in ids:
        values = "(:id, :queue, 'task', '{}', 'todo')"
        queue.sql(
            f"INSERT INTO procrastinate_jobs (id, queue_name, task_name, args, status) VALUES {values}",  # noqa: S608
            id=job_id,
            queue=WAITING.queue,
        )
    await app.configure_task("task", queue=WAITING.queue).defer_async()
    operation = bulk.start_bulk_operation(queue.connection, "cancel", WAITING)
    while await app.connector.run_async(bulk.step_bulk_operation, operation):
        (progress,) = (one for one in bulk.load_bulk_operations(queue.connection))
        assert 0 <= progress.part <= 1
    assert queue.statuses() == {"cancelled": len(ids) + 1}
