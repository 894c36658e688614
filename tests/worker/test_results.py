"""Stored results of runs, errors, and the notification of `wait()`."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.core.channels import FINISHED_CHANNEL
from procrastinate.exceptions import InvalidResult, JobAborted, ResultNotAvailable, TaskNotFound, WaitTimeout
from procrastinate.job_context import JobContext
from procrastinate.results import Result
from tests.worker.running import APPLICATION, DEADLINE, Queue, Workers, happens, soon, until


def details(queue: Queue) -> tuple[int, int]:
    """Return the numbers of stored results and errors."""
    return (
        queue.sql("SELECT count(*) FROM procrastinate_results"),
        queue.sql("SELECT count(*) FROM procrastinate_errors"),
    )


async def result_of(app: App, job_id: int) -> Result:
    return await app.job_manager.get_result_async(job_id)


@pytest.mark.parametrize("value", [None, 0, "ä€", {"a": [1, 2.5, None]}, [], False])
async def test_what_a_task_returns_is_kept(app: App, workers: Workers, value: Any) -> None:
    job_id = await app.task(store_result=True)(lambda: value).defer_async()
    await workers.run()
    result = await result_of(app, job_id)
    assert result.has_value
    assert result.value == value


async def test_a_task_that_does_not_say_so_keeps_nothing(app: App, workers: Workers, queue: Queue) -> None:
    job_id = await app.task(lambda: 1).defer_async()
    await workers.run()
    assert details(queue) == (0, 0)
    result = await result_of(app, job_id)
    with pytest.raises(ResultNotAvailable, match="declare the task with store_result=True"):
        _ = result.value


async def test_all_that_is_known_of_a_job(app: App, workers: Workers) -> None:
    @app.task(retry=1, store_result=True, pass_context=True, queue="q")
    async def task(context: JobContext, a: int) -> int:
        if context.job.attempts == 0:
            raise ValueError("broken")
        return a

    job_id = await task.defer_async(a=7)
    first = await workers.run(max_jobs=1)
    before = await result_of(app, job_id)
    with pytest.raises(ResultNotAvailable, match="it is todo"):
        _ = before.value
    second = await workers.run()
    result = await result_of(app, job_id)
    assert (result.job_id, result.status, result.is_finished, result.attempts) == (job_id, Status.SUCCEEDED, True, 2)
    assert (result.job.queue, result.job.task_kwargs) == ("q", {"a": 7})
    assert result.worker_ids == (first.worker_id, second.worker_id)
    times = [result.enqueued_at, result.started_at, result.last_attempted_at, result.finished_at]
    assert times == sorted(set(filter(None, times)))
    (error,) = result.errors
    assert (error.attempt, error.worker_id) == (1, first.worker_id)
    assert (error.exception_class, error.message) == ("builtins.ValueError", "broken")
    assert error.traceback.startswith("Traceback (most recent call last):\n")
    assert error.traceback.endswith('    raise ValueError("broken")\nValueError: broken\n')


@pytest.mark.parametrize("is_async", [True, False])
async def test_the_traceback_has_the_frames_of_the_task_alone(app: App, workers: Workers, is_async: bool) -> None:
    """It has no frames of the worker and no values of variables. The tracebacks of causes are the same."""

    def fail() -> None:
        password = "swordfish"
        try:
            json.loads(password)
        except ValueError as error:
            raise RuntimeError("no JSON") from error

    async def fail_async() -> None:
        fail()

    def sync_around(call_next: Any, context: JobContext, worker: Any) -> Any:
        return call_next()

    async def around(call_next: Any, context: JobContext, worker: Any) -> Any:
        return await call_next()

    task = app.task(task_middleware=[around if is_async else sync_around])(fail_async if is_async else fail)
    job_id = await task.defer_async()
    await workers.run(worker_middleware=[around])
    (error,) = (await result_of(app, job_id)).errors
    assert "procrastinate/worker" not in error.traceback
    assert "swordfish" not in error.traceback
    assert "JSONDecodeError" in error.traceback
    assert "direct cause" in error.traceback
    assert ", in fail\n" in error.traceback


async def test_the_error_of_a_task_that_is_not_there_has_no_frames(app: App, workers: Workers) -> None:
    job_id = await app.configure_task("missing").defer_async()
    await workers.run(unknown_task_timeout=0)
    (error,) = (await result_of(app, job_id)).errors
    assert error.exception_class == f"{TaskNotFound.__module__}.TaskNotFound"
    assert error.traceback.startswith("procrastinate.exceptions.TaskNotFound: Task 'missing'")


async def test_logs_have_the_frames_of_the_task_alone(
    app: App, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("broken")

    await app.task(fail).defer_async()
    caplog.clear()
    with caplog.at_level(logging.ERROR, logger="procrastinate"):
        await workers.run()
    (record,) = caplog.records
    assert record.exc_text is not None
    assert "procrastinate/worker" not in record.exc_text
    assert ", in fail\n" in record.exc_text


async def test_an_aborted_job_keeps_why(app: App, workers: Workers) -> None:
    @app.task
    async def task() -> None:
        raise JobAborted("enough")

    job_id = await task.defer_async()
    await workers.run()
    result = await result_of(app, job_id)
    assert (result.status, result.errors[0].message) == (Status.ABORTED, "enough")
    with pytest.raises(ResultNotAvailable, match=r"it is aborted: procrastinate\.exceptions\.JobAborted: enough"):
        _ = result.value


async def test_a_worker_can_be_told_to_keep_no_errors(app: App, workers: Workers, queue: Queue) -> None:
    @app.task(retry=1)
    async def task() -> None:
        raise ValueError

    job_id = await task.defer_async()
    await workers.run(store_errors=False)
    assert details(queue) == (0, 0)
    assert (await result_of(app, job_id)).status is Status.FAILED


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "cannot be stored as JSON: Object of type object"),
        ("x" * 2000, "has 2002 bytes as JSON, 1000 are allowed"),
        ({"a": float("nan")}, "contains NaN"),
        ("\0", "contains a NUL character"),
        ("\ud800", "contains half a character"),
    ],
    ids=["no JSON", "too large", "NaN", "NUL", "surrogate"],
)
async def test_a_job_whose_return_value_cannot_be_kept_has_failed(
    app: App, workers: Workers, queue: Queue, value: Any, message: str
) -> None:
    """The job is not retried, because it would return the same value."""
    job_id = await app.task(store_result=True, max_result_size=1000, retry=5)(lambda: value).defer_async()
    await workers.run()
    result = await result_of(app, job_id)
    assert (result.status, result.attempts, details(queue)) == (Status.FAILED, 1, (0, 1))
    assert result.errors[0].exception_class == f"{InvalidResult.__module__}.InvalidResult"
    assert message in result.errors[0].message


async def test_a_return_value_that_the_database_refuses_fails_its_job(app: App, workers: Workers, queue: Queue) -> None:
    await queue.ddl("ALTER TABLE procrastinate_results ADD CHECK (value <> '13')")
    task = app.task(store_result=True)(lambda a: a)
    refused, taken = await task.defer_async(a=13), await task.defer_async(a=14)
    await workers.run(concurrency=2)
    assert (await result_of(app, taken)).value == 14
    result = await result_of(app, refused)
    assert result.status is Status.FAILED
    assert "violates check constraint" in result.errors[0].message


async def test_an_exception_that_cannot_be_shown_is_kept_all_the_same(app: App, workers: Workers) -> None:
    class Evil(Exception):
        def __str__(self) -> str:
            raise KeyError

    def fail() -> None:
        raise Evil

    job_id = await app.task(fail).defer_async()
    await workers.run()
    result = await result_of(app, job_id)
    assert result.status is Status.FAILED
    assert result.errors[0].message == "<str() of the exception has raised KeyError>"


async def test_a_message_with_a_nul_is_kept(app: App, workers: Workers) -> None:
    def fail() -> None:
        raise ValueError("\0")

    job_id = await app.task(fail).defer_async()
    await workers.run()
    (error,) = (await result_of(app, job_id)).errors
    assert error.message == r"\x00"


async def test_deleted_jobs_leave_nothing_behind(app: App, workers: Workers, queue: Queue) -> None:
    job_id = await app.task(store_result=True)(lambda: 1).defer_async()
    await workers.run(delete_jobs="always")
    assert details(queue) == (0, 0)
    with pytest.raises(exceptions.NoResult, match=f"There is no job {job_id}"):
        await result_of(app, job_id)


# Waiting


async def test_a_wait_returns_the_result(app: App, workers: Workers, queue: Queue) -> None:
    job_id = await app.task(store_result=True)(lambda: 42).defer_async()
    await workers.listening(queue)
    assert (await app.job_manager.wait_async(job_id, timeout=DEADLINE)).value == 42


async def test_a_sync_wait_returns_the_result(app: App, workers: Workers, queue: Queue) -> None:
    job_id = await app.task(store_result=True)(lambda: 42).defer_async()
    await workers.listening(queue)
    assert (await asyncio.to_thread(app.job_manager.wait, job_id, timeout=DEADLINE)).value == 42


async def test_a_wait_for_a_job_that_has_ended_is_over_at_once(app: App, workers: Workers) -> None:
    job_id = await app.task(lambda: 1 / 0).defer_async()
    await workers.run()
    assert app.job_manager.wait(job_id, timeout=0.001).status is Status.FAILED


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_wait_ends_however_the_job_ends(app: App, workers: Workers, queue: Queue, cancelled: bool) -> None:
    """Also without a notification: for a cancelled job, and for a task that stores no result."""
    job_id = await app.task(lambda: 1).defer_async()
    waiting = asyncio.create_task(app.job_manager.wait_async(job_id, timeout=DEADLINE))
    await asyncio.sleep(0.3)
    if cancelled:
        await app.job_manager.cancel_job_by_id_async(job_id)
    else:
        await workers.run()
    assert (await waiting).status is (Status.CANCELLED if cancelled else Status.SUCCEEDED)


async def test_a_wait_is_over_when_its_time_is(app: App) -> None:
    job_id = await app.task(lambda: 1).defer_async()
    for wait in (app.job_manager.wait_async(job_id, timeout=0.3), asyncio.to_thread(_wait, app, job_id)):
        with pytest.raises(WaitTimeout, match=rf"Job {job_id} has not ended within 300 ms: it is todo"):
            await soon(wait)
    assert issubclass(WaitTimeout, TimeoutError)


def _wait(app: App, job_id: int) -> Result:
    return app.job_manager.wait(job_id, timeout=0.3)


@pytest.mark.parametrize(("seconds", "error"), [(None, TypeError), ("5", TypeError), (-1, ValueError)])
async def test_a_wait_has_an_end(app: App, seconds: Any, error: type[Exception]) -> None:
    job_id = await app.task(lambda: 1).defer_async()
    with pytest.raises(error, match="timeout must be"):
        await app.job_manager.wait_async(job_id, timeout=seconds)


async def test_waiting_for_a_missing_job_raises_an_error(app: App) -> None:
    with pytest.raises(exceptions.NoResult, match="There is no job 12345: it was deleted, or it is not committed yet"):
        await app.job_manager.wait_async(12345, timeout=DEADLINE)


async def test_a_wait_for_a_job_that_is_deleted_when_it_ends_says_so(app: App, workers: Workers) -> None:
    job_id = await app.task(lambda: 1).defer_async()
    waiting = asyncio.create_task(app.job_manager.wait_async(job_id, timeout=DEADLINE))
    await asyncio.sleep(0.1)
    await workers.run(delete_jobs="always")
    with pytest.raises(exceptions.NoResult, match="was deleted during the wait"):
        await waiting


@pytest.mark.parametrize("is_async", [True, False])
async def test_waiting_calls_are_notified(
    app: App, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    """Waiting calls share one connection, stop polling once it listens, and close it at the end."""
    monkeypatch.setattr("procrastinate.manager.waiting._FIRST_PAUSE", 0.3)
    monkeypatch.setattr("procrastinate.manager.waiting._LONGEST_PAUSE", DEADLINE * 5)
    monkeypatch.setattr("procrastinate.manager.waiting._LISTEN_AFTER", 0.0)
    go_on = threading.Event()
    task = app.task(store_result=True)(lambda: go_on.wait(DEADLINE))
    job_ids = [await task.defer_async() for _ in range(3)]
    waits: list[Any] = [
        asyncio.create_task(
            app.job_manager.wait_async(job_id, timeout=DEADLINE * 2)
            if is_async
            else asyncio.to_thread(app.job_manager.wait, job_id, timeout=DEADLINE * 2)
        )
        for job_id in job_ids
    ]
    listeners = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%LISTEN%finished%' AND state = 'idle'"
    await until(lambda: queue.sql(listeners) == 1)
    await workers.listening(queue, concurrency=3)
    await asyncio.sleep(2)  # the pauses grow beyond the deadline
    go_on.set()
    for wait in waits:
        assert (await soon(wait)).value is True
    await until(lambda: queue.sql(listeners) == 0)
    await until(lambda: all(thread.name != "procrastinate wait" for thread in threading.enumerate()))


async def test_jobs_of_tasks_without_stored_results_are_not_announced(app: App, workers: Workers) -> None:
    heard: list[str] = []
    listening = asyncio.Event()

    async def hear(*, channel: str, payload: str) -> None:
        heard.append(payload)

    listener = asyncio.create_task(app.connector.listen_notify(hear, [FINISHED_CHANNEL], listening.set))
    await happens(listening)
    await app.task(name="quiet")(lambda: 1).defer_async()
    job_id = await app.task(name="loud", store_result=True)(lambda: 1).defer_async()
    await workers.run()
    await until(lambda: heard)
    listener.cancel()
    assert [json.loads(payload) for payload in heard] == [{"type": "jobs_finished", "job_ids": [job_id]}]


async def test_a_wait_polls_if_listening_fails(app: App, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> None:
        raise exceptions.DatabaseUnavailable

    monkeypatch.setattr("procrastinate.adapters.connections.worker_connector.WorkerConnector.listen_notify", refuse)
    job_id = await app.task(store_result=True)(lambda: 42).defer_async()
    waiting = asyncio.create_task(app.job_manager.wait_async(job_id, timeout=DEADLINE))
    await asyncio.sleep(0.5)
    monkeypatch.undo()
    await workers.run(name=APPLICATION)
    assert (await waiting).value == 42
