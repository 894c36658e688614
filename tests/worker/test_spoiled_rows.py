"""Whatever a role that may insert jobs writes into a row, it concerns that job alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import RetryStrategy
from procrastinate._job import UnreadArguments
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.exceptions import InvalidJob, NoResult, NoStack
from tests.worker.running import Queue, Workers, until

LARGEST = 2**31 - 1


def insert(queue: Queue, **values: Any) -> int:
    """Insert a row of a job as any SQL client may, and return its id."""
    row = {"queue_name": "default", "task_name": "good"} | values
    columns, parameters = ", ".join(row), ", ".join(f":{name}" for name in row)
    statement = sa.text(f"INSERT INTO procrastinate_jobs ({columns}) VALUES ({parameters}) RETURNING id")  # noqa: S608
    job_id: int = queue.connection.execute(statement, row).scalar_one()
    return job_id


@pytest.mark.parametrize("column", ["attempts", "rescues"])
async def test_a_count_at_its_end_does_not_stop_the_rescue_of_other_jobs(
    app: App, workers: Workers, queue: Queue, column: str
) -> None:
    app.task(name="good")(lambda: None)
    lost = [insert(queue, status="doing", worker_id=4711) for _ in range(3)]
    spoiled = insert(queue, status="doing", worker_id=4711, **{column: LARGEST})
    await workers.run()
    assert {queue.status(job_id) for job_id in lost} == {Status.SUCCEEDED}
    assert queue.status(spoiled) in (Status.SUCCEEDED, Status.FAILED)
    assert queue.row(spoiled)[column] == LARGEST


async def test_the_last_attempts_of_a_job_are_recorded(app: App, workers: Workers, queue: Queue) -> None:
    tries: list[int] = []

    @app.task(name="tried", retry=RetryStrategy(max_attempts=LARGEST + 10, exponential_wait=3, max_wait=0.01))
    def tried() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError

    @app.task(name="fails")
    def fails() -> None:
        raise ValueError

    job_id = insert(queue, task_name="tried", attempts=LARGEST - 1)
    failed = insert(queue, task_name="fails", attempts=LARGEST)
    workers.start()
    await until(lambda: queue.status(job_id) == Status.SUCCEEDED)
    await until(lambda: queue.status(failed) == Status.FAILED)
    assert (queue.row(job_id)["attempts"], len(tries)) == (LARGEST, 3)


def make_endless(queue: Queue, job_id: int, number: str, count: int) -> None:
    """Give a job arguments of some kilobytes whose text exceeds what PostgreSQL can write."""
    queue.sql(
        "UPDATE procrastinate_jobs SET args = jsonb_build_object('a', many) FROM ("
        "SELECT jsonb_agg(CAST(:number AS numeric)) AS many FROM generate_series(1, :count)) WHERE id = :id",
        number=number,
        count=count,
        id=job_id,
    )


@pytest.mark.parametrize("number", ["1e131071", "-1e131071", "1e-16383", "1e4299"])
async def test_arguments_without_end_fail_their_job_alone(
    app: App, workers: Workers, queue: Queue, number: str
) -> None:
    ran: list[int] = []
    app.task(name="good")(lambda **arguments: ran.append(1))
    spoiled = insert(queue)
    make_endless(queue, spoiled, number, count=300_000 if number == "1e4299" else 70_000)
    others = [insert(queue) for _ in range(5)]
    await workers.run(concurrency=3)
    assert {queue.status(job_id) for job_id in others} == {Status.SUCCEEDED}
    assert (queue.status(spoiled), len(ran)) == (Status.FAILED, 5)
    (error,) = (await app.job_manager.get_result_async(spoiled)).errors
    assert "cannot be read" in error.message


async def test_lists_show_a_job_whose_arguments_cannot_be_written_out(app: App, queue: Queue) -> None:
    spoiled = insert(queue)
    make_endless(queue, spoiled, "1e131071", count=9000)
    (job,) = await app.job_manager.list_jobs_async()
    assert (job.id, job.task_kwargs) == (spoiled, {})
    with pytest.raises(InvalidJob, match=f"The arguments of job {spoiled} cannot be read: a number"):
        await app.job_manager.defer_job_async(job)


async def test_a_job_whose_status_only_a_later_release_knows_spoils_no_list(app: App, queue: Queue) -> None:
    """The later release may have been rolled back."""
    queue.sql("ALTER TYPE procrastinate_job_status ADD VALUE 'archived'")
    later, known, last = insert(queue, status="archived"), insert(queue), insert(queue)
    assert [job.id for job in await app.job_manager.list_jobs_async(limit=1)] == [known]
    assert [job.id for job in await app.job_manager.list_jobs_async(queue="default", after_id=known)] == [last]
    assert await app.job_manager.list_jobs_async(id=later) == []
    assert [job.id for job in (await app.inspect.jobs_async()).jobs] == [last, known]


async def test_a_job_whose_status_only_a_later_release_knows_is_not_found(app: App, queue: Queue) -> None:
    queue.sql("ALTER TYPE procrastinate_job_status ADD VALUE 'archived'")
    later = insert(queue, status="archived")
    reads = app.job_manager.get_job_status_async, app.job_manager.get_result_async, app.job_manager.get_progress_async
    for read in reads:
        with pytest.raises(NoResult):
            await read(later)
    with pytest.raises(NoStack):
        await app.job_manager.get_stack_async(later)
    assert await app.inspect.job_async(later) is None
    assert [reason.code for reason in (await app.inspect.explain_async(later)).reasons] == ["unknown-status"]


async def test_a_tick_whose_job_has_a_status_that_only_a_later_release_knows_spoils_no_list(
    app: App, queue: Queue
) -> None:
    queue.sql("ALTER TYPE procrastinate_job_status ADD VALUE 'archived'")
    later = insert(queue, status="archived")
    queue.sql(
        "INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, job_id) VALUES ('good', 1, :id)",
        id=later,
    )
    (schedule,) = (await app.inspect.periodic_async()).schedules
    assert [tick.status for tick in schedule.ticks] == [None]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_large_arguments_reach_the_task(app: App, workers: Workers, queue: Queue, is_async: bool) -> None:
    received: list[Any] = []

    async def async_task(**arguments: Any) -> None:
        received.append(arguments)

    arguments = {"text": "x" * 100_000, "numbers": list(range(5000)), "long": 10**4000}
    task: Any = app.task(name="takes")(async_task if is_async else lambda **arguments: received.append(arguments))
    job_id = await task.defer_async(**arguments)
    await workers.run()
    assert queue.status(job_id) == Status.SUCCEEDED
    assert received == [arguments]


async def test_a_worker_reads_large_arguments_when_their_jobs_start(app: App, workers: Workers, queue: Queue) -> None:
    """The jobs of a fetch that do not run yet keep no arguments in memory."""
    task = app.task(name="takes")(lambda text: None)
    await task.batch_defer_async(*[{"text": "x" * 50_000}] * 3)
    worker_id = await app.job_manager.register_worker()
    fetched = await app.job_manager.fetch_jobs(None, worker_id, 10, with_arguments=False)
    assert [len(job.task_kwargs) for job in fetched] == [0, 0, 0]
    assert all(isinstance(job.task_kwargs, UnreadArguments) for job in fetched)
    read = await app.job_manager.read_arguments(fetched[0])
    assert read.task_kwargs == {"text": "x" * 50_000}


async def test_a_fetch_reads_no_more_of_the_name_of_a_step_than_a_name_can_have(app: App, queue: Queue) -> None:
    insert(queue, step="x" * 100_000)
    worker_id = await app.job_manager.register_worker()
    (fetched,) = await app.job_manager.fetch_jobs(None, worker_id, 10)
    assert fetched.step == "x" * 200


@pytest.mark.parametrize("ids", ["{NULL}", "{1,NULL,9223372036854775807}", "{{1,2},{3,NULL}}", "{-1}"])
async def test_an_arrival_with_odd_ids_does_not_stop_the_fetch(
    app: App, workers: Workers, queue: Queue, ids: str
) -> None:
    app.task(name="good")(lambda: None)
    queue.sql(
        "INSERT INTO procrastinate_arrivals (ended, groups, waiting, lost) "
        "SELECT ids, ids, ids, ids FROM CAST(:ids AS bigint[]) AS ids",
        ids=ids,
    )
    others = [insert(queue) for _ in range(3)]
    workers.start()
    await until(lambda: {queue.status(job_id) for job_id in others} == {Status.SUCCEEDED})
    await until(lambda: queue.sql("SELECT count(*) FROM procrastinate_arrivals") == 0)


ODD_TIMES = [
    "infinity",
    "-infinity",
    "294276-12-31 23:59:59.999999+00",
    "10000-01-01 00:00:00+00",
    "4713-01-01 00:00:00+00 BC",
]


@pytest.mark.parametrize("time", ODD_TIMES)
async def test_times_that_python_does_not_reach_concern_their_row_alone(
    app: App, workers: Workers, queue: Queue, time: str
) -> None:
    app.task(name="good")(lambda **arguments: None)
    odd = insert(queue)
    queue.sql("UPDATE procrastinate_jobs SET scheduled_at = CAST(:at AS timestamptz) WHERE id = :id", at=time, id=odd)
    queue.sql("UPDATE procrastinate_events SET at = CAST(:at AS timestamptz) WHERE job_id = :id", at=time, id=odd)
    others = [insert(queue) for _ in range(3)]
    listed = {job.id for job in await app.job_manager.list_jobs_async()}
    assert listed == {odd, *others}
    assert (await app.job_manager.get_result_async(odd)).job.id == odd
    await workers.run()
    assert {queue.status(job_id) for job_id in others} == {Status.SUCCEEDED}


ODD_ARGUMENTS = {
    "long number": "1" * 5000,
    "deep": "[" * 5000 + "]" * 5000,
    "list": "[1]",
    "text": '"a"',
    "null": "null",
}


@pytest.mark.parametrize("name", ODD_ARGUMENTS)
async def test_arguments_that_no_task_can_take_fail_their_job_alone(
    app: App, workers: Workers, queue: Queue, name: str
) -> None:
    app.task(name="good")(lambda **arguments: None)
    odd = insert(queue)
    text = ODD_ARGUMENTS[name]
    args = '{"a": ' + text + "}" if name in ("long number", "deep") else text
    queue.sql("UPDATE procrastinate_jobs SET args = CAST(:args AS jsonb) WHERE id = :id", args=args, id=odd)
    others = [insert(queue) for _ in range(3)]
    assert {job.id for job in await app.job_manager.list_jobs_async()} == {odd, *others}
    await workers.run()
    assert {queue.status(job_id) for job_id in others} == {Status.SUCCEEDED}
    assert queue.status(odd) is (Status.SUCCEEDED if are_arguments(args) else Status.FAILED)


def are_arguments(text: str) -> bool:
    """Return whether this Python reads a dict from the text: how deep it goes differs from release to release."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
