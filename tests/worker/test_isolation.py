"""The state of one job never reaches the next: each starts in the worker's own context variables."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import decimal
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import App, JobContext
from procrastinate.testing import InMemoryConnector, Jobs, RunAtDefer
from procrastinate.worker import Worker
from procrastinate.worker.fetch import prefetch
from procrastinate.worker.run import early_release
from tests.worker.running import NEVER, Queue, Workers, until

TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("TENANT", default="none")


@contextlib.contextmanager
def tenant(name: str) -> Iterator[None]:
    """Set the variable for a block, as a program does before it starts a worker."""
    token = TENANT.set(name)
    try:
        yield
    finally:
        TENANT.reset(token)


@contextlib.contextmanager
def statements_by_tenant() -> Iterator[dict[str, set[str]]]:
    """Collect the statements of every engine, by the tenant in whose context each is made."""
    seen: dict[str, set[str]] = {}

    def look(connection: sa.Connection, cursor: Any, statement: str, *_: Any) -> None:
        seen.setdefault(TENANT.get(), set()).add(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", look)
    try:
        yield seen
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", look)


def add_task(app: App, *, is_async: bool, **options: Any) -> tuple[Any, list[str]]:
    """A task that writes down the tenant that it finds, and sets its own."""
    seen: list[str] = []

    def serve() -> None:
        seen.append(TENANT.get())
        TENANT.set("a job's")

    async def serve_async() -> None:
        serve()

    return app.task(name="serve", **options)(serve_async if is_async else serve), seen


@pytest.mark.parametrize("concurrency", [1, 5])
@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_job_starts_in_the_workers_own_context(
    app: App, workers: Workers, is_async: bool, prefetch: bool, concurrency: int
) -> None:
    task, seen = add_task(app, is_async=is_async)
    await task.batch_defer_async(*({} for _ in range(100)))
    with tenant("the program's"):
        await workers.run(prefetch=prefetch, concurrency=concurrency)
    assert seen == ["the program's"] * 100


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_retry_starts_in_the_workers_own_context(app: App, workers: Workers, is_async: bool) -> None:
    task, seen = add_task(app, is_async=is_async, retry=3)

    async def fail_twice(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        await call_next()
        if context.job.attempts < 2:
            raise ValueError

    await task.defer_async()
    with tenant("the program's"):
        await workers.run(worker_middleware=[fail_twice])
    assert seen == ["the program's"] * 3


@pytest.mark.parametrize("is_async", [True, False])
async def test_the_decimal_context_of_a_job_ends_with_it(app: App, workers: Workers, is_async: bool) -> None:
    seen: list[int] = []

    def count() -> None:
        seen.append(decimal.getcontext().prec)
        decimal.getcontext().prec = 3

    async def count_async() -> None:
        count()

    await app.task(name="count")(count_async if is_async else count).batch_defer_async({}, {}, {})
    with decimal.localcontext() as own:
        own.prec = 50
        await workers.run()
    assert seen == [50, 50, 50]


@pytest.mark.parametrize("runs_at_defer", [False, True])
@pytest.mark.parametrize("is_async", [True, False])
def test_the_decimal_context_of_a_job_that_a_test_runs_ends_with_it(is_async: bool, runs_at_defer: bool) -> None:
    app = App(connector=InMemoryConnector())
    seen: list[int] = []

    def count() -> None:
        seen.append(decimal.getcontext().prec)
        decimal.getcontext().prec = 3

    async def count_async() -> None:
        count()

    task = app.task(name="count")(count_async if is_async else count)
    with decimal.localcontext() as own:
        own.prec = 50
        with RunAtDefer(app) if runs_at_defer else contextlib.nullcontext():
            task.batch_defer({}, {}, {})
        with Jobs(app) as jobs:
            jobs.run()
        assert own.prec == 50
    assert seen == [50, 50, 50]


async def test_each_job_gets_a_new_decimal_context_if_the_program_has_none(app: App, workers: Workers) -> None:
    seen: list[int] = []

    @app.task
    async def count() -> None:
        seen.append(decimal.getcontext().prec)
        decimal.getcontext().prec = 3

    await count.batch_defer_async({}, {}, {})
    await asyncio.create_task(workers.run(), context=contextvars.Context())
    assert seen == [decimal.DefaultContext.prec] * 3


async def test_what_middleware_sets_ends_with_its_job(app: App, workers: Workers) -> None:
    seen: list[str] = []

    async def bind(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        seen.append(TENANT.get())
        TENANT.set("the middleware's")
        return await call_next()

    await app.task(name="task")(lambda: None).batch_defer_async(*({} for _ in range(50)))
    await workers.run(worker_middleware=[bind])
    assert seen == ["none"] * 50


async def test_a_job_after_a_thread_that_was_left_starts_in_the_workers_own_context(
    app: App, workers: Workers, queue: Queue
) -> None:
    """The thread that returns late gives its slot to the next job."""
    seen: list[str] = []
    may_return, loop = asyncio.Event(), asyncio.get_running_loop()

    @app.task(name="late", timeout=0.05)
    def late() -> None:
        TENANT.set("a job's")
        asyncio.run_coroutine_threadsafe(may_return.wait(), loop).result()

    @app.task(name="next")
    async def look() -> None:
        seen.append(TENANT.get())

    late_id = await late.defer_async()
    with tenant("the program's"):
        running = await workers.listening(queue)
    await queue.failed(late_id)
    next_id = await look.defer_async()
    may_return.set()
    await queue.succeeded(next_id)
    await running.stopped()
    assert seen == ["the program's"]


async def test_a_task_that_a_job_leaves_behind_keeps_the_context_of_its_job(
    app: App, workers: Workers, queue: Queue
) -> None:
    seen: list[str] = []
    may_look, left = asyncio.Event(), []

    async def look_later() -> None:
        await may_look.wait()
        seen.append(TENANT.get())

    @app.task(name="leave")
    async def leave() -> None:
        TENANT.set("the first job's")
        left.append(asyncio.create_task(look_later()))

    @app.task(name="set")
    async def set_other() -> None:
        TENANT.set("the second job's")
        may_look.set()

    await leave.defer_async()
    await set_other.defer_async()
    await workers.run()
    await asyncio.wait(left)
    assert seen == ["the first job's"]


def prefetch_at_any_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs count as short, and none wait for too long."""
    monkeypatch.setattr(prefetch, "WINDOW", NEVER)
    for module in (prefetch, early_release):
        monkeypatch.setattr(module, "LONGEST_WAIT", NEVER)


async def test_no_statement_of_the_worker_is_made_in_the_context_of_a_job(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs are fetched, recorded and given back in the worker's context, whichever job came before."""
    prefetch_at_any_load(monkeypatch)
    caplog.set_level("DEBUG", logger="procrastinate")
    task, _ = add_task(app, is_async=True)
    ids = await task.batch_defer_async(*({} for _ in range(200)))
    # A job that has been tried before starts alone: what was fetched with it is given back when it is its turn.
    queue.sql("UPDATE procrastinate_jobs SET attempts = 1 WHERE id = ANY(:ids)", ids=ids[50::20])
    with tenant("the program's"), statements_by_tenant() as seen:
        await workers.run()
    assert "have not started" in caplog.text
    assert seen["the program's"]
    assert "a job's" not in seen


async def test_a_job_that_stops_the_worker_does_so_in_the_workers_context(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fetched ahead is given back, and the worker signs off."""
    prefetch_at_any_load(monkeypatch)
    caplog.set_level("DEBUG", logger="procrastinate")
    task, _ = add_task(app, is_async=True)

    @app.task(name="stop")
    async def stop() -> None:
        await until(lambda: queue.statuses()["doing"] > 1)  # some were fetched ahead
        TENANT.set("a job's")
        running.worker.stop()
        await asyncio.sleep(0)  # the worker hears of it while jobs wait for this one to end

    await task.batch_defer_async(*({} for _ in range(50)))
    await stop.defer_async()
    await task.batch_defer_async(*({} for _ in range(50)))
    with tenant("the program's"), statements_by_tenant() as seen:
        running = workers.start()
        await running.ended()
    assert "have not started" in caplog.text
    assert "a job's" not in seen


@pytest.mark.parametrize("is_async", [True, False])
def test_jobs_that_a_test_runs_start_in_the_context_of_the_test(is_async: bool) -> None:
    app = App(connector=InMemoryConnector())
    task, seen = add_task(app, is_async=is_async)
    with tenant("the test's"):
        task.batch_defer({}, {}, {})
        with Jobs(app) as jobs:
            jobs.run()
        assert TENANT.get() == "the test's"
    assert seen == ["the test's"] * 3


@pytest.mark.parametrize("is_async", [True, False])
async def test_jobs_that_an_async_test_runs_start_in_the_context_of_the_test(is_async: bool) -> None:
    app = App(connector=InMemoryConnector())
    task, seen = add_task(app, is_async=is_async)
    with tenant("the test's"):
        await task.batch_defer_async({}, {}, {})
        with Jobs(app) as jobs:
            await jobs.run_async()
        assert TENANT.get() == "the test's"
    assert seen == ["the test's"] * 3


def test_a_job_that_runs_at_defer_leaves_the_context_of_its_caller_alone() -> None:
    app = App(connector=InMemoryConnector())
    task, seen = add_task(app, is_async=False)
    with RunAtDefer(app), tenant("the caller's"):
        task.defer()
        task.defer()
        assert TENANT.get() == "the caller's"
    assert seen == ["the caller's"] * 2


def test_a_job_that_a_job_defers_does_not_start_in_its_context_at_defer() -> None:
    app = App(connector=InMemoryConnector())
    task, seen = add_task(app, is_async=False)

    @app.task(name="first")
    def first() -> None:
        TENANT.set("a job's")
        task.defer()

    with RunAtDefer(app):
        first.defer()
    assert seen == ["none"]


@pytest.mark.parametrize("is_shut_down", [True, False])
async def test_a_worker_ends_whatever_a_job_does_to_the_executor_of_the_loop(
    app: App, workers: Workers, queue: Queue, is_shut_down: bool
) -> None:
    """A job may shut the default executor down, and may set one of which no thread is free."""
    occupied = threading.Event()

    @app.task(name="spoil")
    async def spoil() -> None:
        loop = asyncio.get_running_loop()
        if is_shut_down:
            await loop.shutdown_default_executor()
        else:
            executor = ThreadPoolExecutor(1)
            executor.submit(occupied.wait)
            loop.set_default_executor(executor)

    job_id = await spoil.defer_async()
    try:
        await workers.run()
    finally:
        occupied.set()
    await queue.succeeded(job_id)
    assert queue.sql("SELECT count(*) FROM procrastinate_workers") == 0


@pytest.mark.parametrize("by_loop", [False, True], ids=["signal", "loop"])
async def test_a_handler_of_signals_that_a_job_leaves_behind_does_not_reach_the_worker(
    app: App, workers: Workers, queue: Queue, by_loop: bool
) -> None:
    """The worker would not stop at a deploy, or would end in the middle of its jobs."""
    received: list[int] = []

    @app.task(name="replace")
    async def replace() -> None:
        if by_loop:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, received.append, 1)
        else:
            signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))

    @app.task(name="stop")
    async def stop() -> None:
        signal.raise_signal(signal.SIGTERM)

    job_id = await replace.defer_async()
    worker = await workers.listening(queue, install_signal_handlers=True, concurrency=1)
    await queue.succeeded(job_id)
    await stop.defer_async()
    await worker.ended()
    assert received == []


async def test_a_handler_of_signals_serves_the_job_that_sets_it(app: App, workers: Workers, queue: Queue) -> None:
    received: list[int] = []

    @app.task
    async def serve() -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
        signal.raise_signal(signal.SIGTERM)

    job_id = await serve.defer_async()
    await workers.run(install_signal_handlers=True)
    await queue.succeeded(job_id)
    assert received == [signal.SIGTERM]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_an_exception_that_several_jobs_raise_has_the_frames_of_one_job(
    app: App, workers: Workers, is_async: bool
) -> None:
    """Such as an exception of a module, or one that a lost connection raises for each of its users."""
    shared = ValueError("shared")

    def fail() -> None:
        raise shared

    async def fail_async() -> None:
        raise shared

    app.task(name="fail")(fail_async if is_async else fail)
    ids = await app.configure_task("fail").batch_defer_async({}, {}, {})
    await workers.run()
    tracebacks = [(await app.job_manager.get_result_async(job_id)).errors[0].traceback for job_id in ids]
    assert [text.count("raise shared") for text in tracebacks] == [1, 1, 1]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_an_exception_that_several_jobs_raise_has_the_causes_of_one_job(
    app: App, workers: Workers, is_async: bool
) -> None:
    """The error of a job shows what that job handled, and nothing of a job before it."""
    shared = ValueError("shared")

    def fail(customer: str, how: str) -> None:
        try:
            if customer:
                raise KeyError(f"of {customer}")
        except KeyError as error:
            if how == "cause":
                raise shared from error
            raise shared  # noqa: B904 - the context is what the test is about
        if how == "wrapped":
            try:
                raise shared
            except ValueError as error:
                raise OSError("wrapped") from error
        raise shared

    async def fail_async(customer: str, how: str) -> None:
        fail(customer, how)

    app.task(name="fail")(fail_async if is_async else fail)
    calls = [("Ada", "context"), ("", ""), ("Ben", "cause"), ("Cid", "context"), ("", "wrapped"), ("", "")]
    jobs = [{"customer": customer, "how": how} for customer, how in calls]
    ids = await app.configure_task("fail").batch_defer_async(*jobs)
    await workers.run(concurrency=1)
    tracebacks = [(await app.job_manager.get_result_async(job_id)).errors[0].traceback for job_id in ids]
    assert [re.findall(r"KeyError: 'of (\w+)'", text) for text in tracebacks] == [["Ada"], [], ["Ben"], ["Cid"], [], []]
    assert tracebacks[4].count("raise shared") == 1
