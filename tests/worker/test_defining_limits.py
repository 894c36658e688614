"""How workers store the limits of the code."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from procrastinate import core
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.limits import Limit
from procrastinate.worker.services import limit_definer
from tests.worker.running import Queue, Workers
from tests.worker.test_refused_rows import refuse

ADVISORY_LOCKS = (
    "CREATE TABLE locks (number bigint)",
    "CREATE FUNCTION count_locks() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO locks SELECT count(*) "
    "FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid(); RETURN NULL; END $$",
    "CREATE TRIGGER count_locks AFTER INSERT ON procrastinate_openings EXECUTE FUNCTION count_locks()",
)
"""Note how many advisory locks a transaction has when it opens the keys of a limit."""


async def defer_with_limits(app: App, *names: str) -> list[int]:
    """Defer a job of each of these limits."""
    tasks = [app.task(name=name, limit=Limit(name, concurrency=1))(lambda: None) for name in names]
    return [await task.defer_async() for task in tasks]


async def test_a_limit_that_the_database_refuses_keeps_no_other_limit(app: App, workers: Workers, queue: Queue) -> None:
    first, refused, last = await defer_with_limits(app, "first", "refused", "last")
    refuse(queue, event="INSERT", table="procrastinate_limits", condition="NEW.name = 'refused'")
    workers.start()
    await queue.succeeded(first, last)
    assert queue.status(refused) is Status.TODO


async def test_a_limit_that_an_open_transaction_changes_keeps_no_other_limit(
    app: App,
    workers: Workers,
    queue: Queue,
    other: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limit_definer, "_PAUSE", 0.05)
    first, locked, last = await defer_with_limits(app, "first", "locked", "last")
    other.execute("INSERT INTO procrastinate_limits (name, set_concurrency) VALUES ('locked', 1)")
    workers.start(fetch_job_polling_interval=0.1)
    await queue.succeeded(first, last)
    assert queue.status(locked) is Status.TODO
    other.commit()
    await queue.succeeded(locked)


async def test_many_limits_take_a_bounded_number_of_locks_at_once(app: App, queue: Queue) -> None:
    """The server has a few thousand locks for all its sessions."""
    for statement in ADVISORY_LOCKS:
        queue.sql(statement)
    definitions = [core.LimitDefinition(name=f"limit {number:04}", concurrency=1) for number in range(450)]
    assert await app.job_manager.define_limits(definitions) == []
    assert queue.sql("SELECT max(number) FROM locks") == 200
    assert queue.sql("SELECT count(*) FROM procrastinate_limits") == 450
