"""Whatever plain SQL writes into the tables of limits, it concerns its own limit and its own job alone."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from procrastinate import App, Limit, Rate, by_arguments
from procrastinate.core import Status
from tests.worker.running import Queue, Workers, until

_JOB = "INSERT INTO procrastinate_jobs (queue_name, task_name, limit_name, limit_key, limit_weight)"
_HOLD_OFF = "INSERT INTO procrastinate_hold_offs (limit_name, limit_key, until)"
_START = "INSERT INTO procrastinate_starts (limit_name, limit_key, at) SELECT 'paced', 'k', "
_RATES = "INSERT INTO procrastinate_limits (name, set_rates)"

CONCERN_OWN_JOB = {
    "a weight of 0": f"{_JOB} VALUES ('default', 'spoiled', 'spoiled', 'k', 0)",
    "a weight below 0": f"{_JOB} VALUES ('default', 'spoiled', 'spoiled', 'k', -5)",
    "the lowest weight": f"{_JOB} VALUES ('default', 'spoiled', 'spoiled', 'k', -2147483648)",
    "a weight of 0 and a rate": f"{_JOB} VALUES ('default', 'spoiled', 'paced', 'k', 0)",
    "a start at infinity": _START + "'infinity' FROM generate_series(1, 1000)",
    "a start by a clock that was wrong": _START + "now() + interval '1 year' FROM generate_series(1, 1000)",
    "a window at infinity": (
        "INSERT INTO procrastinate_windows (limit_name, limit_key, opens_at) VALUES ('paced', 'k', 'infinity')"
    ),
    "an endless rate": f"{_RATES} VALUES ('paced', '1000/1e308')",
    "a rate of too many": f"{_RATES} VALUES ('paced', '99999999999999999999/1')",
}
CONCERN_OWN_LIMIT = {
    "a hold-off without an end": f"{_HOLD_OFF} VALUES ('spoiled', 'k', 'infinity'), ('paced', 'k', 'infinity')",
    "a hold-off that Python does not reach": f"{_HOLD_OFF} VALUES ('spoiled', 'k', '20000-01-01')",
    "a rate of a later release": f"{_RATES} VALUES ('paced', 'burst:5/1'), ('spoiled', 'burst:5/1')",
    "a rate without a window": f"{_RATES} VALUES ('paced', '5/nan'), ('spoiled', '5/nan')",
    "a rate of nothing": f"{_RATES} VALUES ('paced', '0/0'), ('spoiled', '0/0')",
}


def declare(app: App) -> list[Any]:
    """Declare tasks with a limit of each kind. Return those of the limits that are spoiled, and then the others."""
    by = by_arguments("key")
    spoiled = Limit("spoiled", by=lambda _: "k", concurrency=2, total=4)
    paced = Limit("paced", by=lambda _: "k", rate=Rate(1000, per=1))
    fair = Limit("fair", by=by, fair=True)
    tasks = [app.task(name=one.name, limit=one)(lambda key: None) for one in (spoiled, paced, fair)]
    return [*tasks, app.task(name="plain")(lambda key: None), app.task(name="locked", lock="lock")(lambda key: None)]


@pytest.mark.parametrize("statement", [pytest.param(sql, id=name) for name, sql in CONCERN_OWN_JOB.items()])
async def test_a_spoiled_row_of_a_limit_stops_no_job(app: App, workers: Workers, queue: Queue, statement: str) -> None:
    tasks = declare(app)
    queue.sql(statement)
    ids = [await task.defer_async(key=number % 2) for number in range(4) for task in tasks]
    workers.start()
    await until(lambda: {queue.status(job_id) for job_id in ids} == {Status.SUCCEEDED})


@pytest.mark.parametrize("statement", [pytest.param(sql, id=name) for name, sql in CONCERN_OWN_LIMIT.items()])
async def test_a_limit_that_lets_no_job_start_stops_no_other_limit(
    app: App, workers: Workers, queue: Queue, statement: str
) -> None:
    spoiled, paced, *others = declare(app)
    queue.sql(statement)
    waiting = [await spoiled.defer_async(key=1), await paced.defer_async(key=1)]
    ids = [await task.defer_async(key=number % 2) for number in range(4) for task in others]
    workers.start()
    await until(lambda: {queue.status(job_id) for job_id in ids} == {Status.SUCCEEDED})
    assert queue.status(waiting[0]) is Status.TODO
    assert queue.status(waiting[1]) in (Status.TODO, Status.SUCCEEDED)
    assert {one.name for one in await app.limits.list_async()} == {"spoiled", "paced", "fair"}


async def test_a_lock_that_enters_no_index_stops_no_other_job(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """A waiting job enters the index of locks when it gets its lock, so the INSERT does not fail."""
    tasks = declare(app)
    insert = "INSERT INTO procrastinate_jobs (queue_name, task_name, lock) VALUES ('default', 'plain', :lock)"
    queue.sql(insert, lock=secrets.token_hex(20_000))
    ids = [await task.defer_async(key=1) for task in tasks]
    workers.start()
    await until(lambda: {queue.status(job_id) for job_id in ids} == {Status.SUCCEEDED})
    assert "index row" in caplog.text
