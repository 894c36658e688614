"""Jobs are run: where, how many at a time, and in which order."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

from procrastinate.app import App
from procrastinate.job_context import JobContext
from procrastinate.jobs import Status
from tests.worker.running import Queue, Workers, happens, soon, until


async def test_an_async_task_runs_on_the_event_loop(app: App, workers: Workers, queue: Queue) -> None:
    seen: list[Any] = []

    @app.task
    async def task(**kwargs: Any) -> None:
        seen.append((threading.current_thread(), asyncio.get_running_loop(), kwargs))

    job_id = await task.defer_async(a=1, b=["x", None], c={"d": 1.5})
    await workers.run()
    assert queue.status(job_id) is Status.SUCCEEDED
    assert seen == [
        (threading.current_thread(), asyncio.get_running_loop(), {"a": 1, "b": ["x", None], "c": {"d": 1.5}})
    ]


async def test_a_sync_task_runs_in_a_thread(app: App, workers: Workers, queue: Queue) -> None:
    threads: list[threading.Thread] = []

    @app.task
    def task() -> None:
        threads.append(threading.current_thread())

    job_id = await task.defer_async()
    await workers.run()
    assert queue.status(job_id) is Status.SUCCEEDED
    assert threads[0] is not threading.current_thread()
    assert threads[0].name.startswith("procrastinate-task")


async def test_a_sync_task_that_returns_an_awaitable_is_awaited(
    app: App, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> str:
        return "worked"

    caplog.set_level("DEBUG", logger="procrastinate")
    await app.task(name="task")(lambda: work()).defer_async()
    await workers.run()
    (record,) = (vars(record) for record in caplog.records if vars(record)["action"] == "job_success")
    assert record["result"] == "worked"


@pytest.mark.parametrize("is_async", [True, False])
async def test_as_many_jobs_run_at_once_as_there_are_slots_and_no_more(
    app: App, workers: Workers, queue: Queue, is_async: bool
) -> None:
    started: list[int] = []
    release = threading.Event()

    def sync_task(number: int) -> None:
        started.append(number)
        assert release.wait(10)

    async def async_task(number: int) -> None:
        started.append(number)
        await asyncio.to_thread(release.wait, 10)

    task = app.task(name="task")(async_task if is_async else sync_task)
    await task.batch_defer_async(*({"number": number} for number in range(7)))
    running = workers.start(concurrency=3, wait=False)
    await until(lambda: len(started) == 3)
    assert queue.statuses() == {"doing": 3, "todo": 4}
    assert sorted(started) == [0, 1, 2]
    release.set()
    await running.ended()
    assert queue.statuses() == {"succeeded": 7}


async def test_a_slot_that_is_free_is_filled_at_once(app: App, workers: Workers, queue: Queue) -> None:
    gates = [asyncio.Event() for _ in range(4)]
    started = [asyncio.Event() for _ in range(4)]

    @app.task
    async def task(number: int) -> None:
        started[number].set()
        await gates[number].wait()

    await task.batch_defer_async(*({"number": number} for number in range(4)))
    running = workers.start(concurrency=2, wait=False)
    await happens(started[0])
    await happens(started[1])
    gates[1].set()
    await happens(started[2])
    gates[2].set()
    await happens(started[3])
    assert not gates[0].is_set()
    gates[0].set()
    gates[3].set()
    await running.ended()


async def test_jobs_start_by_priority_then_in_order(app: App, workers: Workers) -> None:
    ran: list[str] = []

    @app.task
    async def task(name: str) -> None:
        ran.append(name)

    for name, priority in (("first", 0), ("urgent", 5), ("second", 0), ("late", -5), ("urgent too", 5)):
        await task.configure(priority=priority).defer_async(name=name)
    await workers.run()
    assert ran == ["urgent", "urgent too", "first", "second", "late"]


async def test_jobs_with_one_lock_run_one_after_the_other_by_priority_then_in_order(app: App, workers: Workers) -> None:
    log: list[str] = []
    at_once = 0

    @app.task(lock="one")
    async def task(name: str) -> None:
        nonlocal at_once
        at_once += 1
        assert at_once == 1
        log.append(name)
        await asyncio.sleep(0)
        at_once -= 1

    for name, priority in (("a", 0), ("b", 0), ("urgent", 5), ("c", 0)):
        await task.configure(priority=priority).defer_async(name=name)
    await workers.run(concurrency=4)
    assert log == ["urgent", "a", "b", "c"]


async def test_jobs_with_one_lock_run_one_after_the_other_on_several_workers(
    app: App, workers: Workers, queue: Queue
) -> None:
    running_now: dict[str, int] = {}
    log: list[tuple[str, int]] = []

    @app.task
    async def task(lock: str, number: int) -> None:
        running_now[lock] = running_now.get(lock, 0) + 1
        assert running_now[lock] == 1
        log.append((lock, number))
        await asyncio.sleep(0)
        running_now[lock] -= 1

    ids = []
    for number in range(10):
        for lock in ("x", "y", "z"):
            ids.append(await task.configure(lock=lock).defer_async(lock=lock, number=number))
    for _ in range(3):
        workers.start(await workers.another_app(), concurrency=4)
    await queue.succeeded(*ids)
    for lock in ("x", "y", "z"):
        assert [number for name, number in log if name == lock] == list(range(10))


async def test_a_worker_takes_jobs_of_its_queues_only(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    mine = [await task.configure(queue=name).defer_async() for name in ("a", "b")]
    other = await task.configure(queue="c").defer_async()
    await workers.run(queues=["a", "b"])
    assert [queue.status(job_id) for job_id in mine] == [Status.SUCCEEDED, Status.SUCCEEDED]
    assert queue.status(other) is Status.TODO
    await workers.run(queues=["c"])
    assert queue.status(other) is Status.SUCCEEDED


async def test_no_job_runs_twice_however_many_workers_there_are(app: App, workers: Workers, queue: Queue) -> None:
    ran: list[int] = []

    @app.task
    async def task(number: int) -> None:
        ran.append(number)

    await task.batch_defer_async(*({"number": number} for number in range(200)))
    running = [workers.start(await workers.another_app(), concurrency=5, wait=False) for _ in range(3)]
    for one in running:
        await one.ended()
    assert sorted(ran) == list(range(200))
    assert queue.statuses() == {"succeeded": 200}


async def test_a_task_learns_about_its_job(app: App, workers: Workers, queue: Queue) -> None:
    contexts: list[JobContext] = []

    @app.task(name="task", pass_context=True, queue="q", priority=3, lock="l")
    async def task(context: JobContext, a: int) -> None:
        contexts.append(context)

    job_id = await task.defer_async(a=1)
    worker = await workers.run(name="mine", queues=["q"], additional_context={"key": "value"})
    (context,) = contexts
    assert context.app is app
    assert (context.worker_name, context.worker_queues) == ("mine", ("q",))
    assert context.additional_context == {"key": "value"}
    assert context.task is app.tasks["task"]
    assert (context.job.id, context.job.queue, context.job.priority, context.job.lock) == (job_id, "q", 3, "l")
    assert (context.job.attempts, context.job.status, context.job.task_kwargs) == (0, "doing", {"a": 1})
    assert context.job.worker_id == worker.worker_id
    assert context.abort_reason() is None


async def test_each_job_has_an_additional_context_of_its_own(app: App, workers: Workers) -> None:
    seen: list[dict[str, Any]] = []
    given = {"count": 0}

    @app.task(pass_context=True)
    def task(context: JobContext) -> None:
        context.additional_context["count"] += 1
        seen.append(context.additional_context)

    await task.batch_defer_async({}, {})
    await workers.run(additional_context=given)
    assert seen == [{"count": 1}, {"count": 1}]
    assert given == {"count": 0}


async def test_a_job_finds_its_task_by_an_alias(app: App, workers: Workers, queue: Queue) -> None:
    app.task(name="new", aliases=["old"])(lambda: None)
    job_id = await app.configure_task("elsewhere").defer_async()
    queue.sql("UPDATE procrastinate_jobs SET task_name = 'old'")
    await workers.run()
    assert queue.status(job_id) is Status.SUCCEEDED


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


@pytest.mark.parametrize("is_async", [True, False])
async def test_context_variables_reach_the_task_and_come_back(app: App, workers: Workers, is_async: bool) -> None:
    seen: list[str] = []

    async def bind(call_next: Callable[[], Any], context: JobContext, worker: Any) -> Any:
        seen.append(VARIABLE.get())
        VARIABLE.set("from middleware")
        result = await call_next()
        seen.append(VARIABLE.get())
        return result

    def sync_task() -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set("from the task")

    async def async_task() -> None:
        sync_task()

    task = app.task(name="task")(async_task if is_async else sync_task)
    await task.batch_defer_async({}, {})
    await workers.run(worker_middleware=[bind])
    assert seen == ["unset", "from middleware", "from the task"] * 2
    assert VARIABLE.get() == "unset"


async def test_tasks_may_defer_and_look_into_the_queue(app: App, workers: Workers, queue: Queue) -> None:
    @app.task
    async def last() -> None: ...

    @app.task
    def second() -> None:
        last.defer()

    @app.task
    async def first() -> None:
        await second.defer_async()

    await first.defer_async()
    await workers.run(concurrency=2)
    assert queue.statuses() == {"succeeded": 3}


async def test_a_worker_needs_four_connections_at_most(app: App, workers: Workers, queue: Queue) -> None:
    most = 0

    @app.task
    async def task() -> None:
        nonlocal most
        most = max(most, len(queue.backends()))

    await task.batch_defer_async(*({} for _ in range(100)))
    await soon(app.close_async())
    running = workers.start(concurrency=1, update_heartbeat_interval=0.02, stalled_worker_timeout=5)
    await until(lambda: queue.statuses() == {"succeeded": 100})
    most = max(most, len(queue.backends()))
    assert 1 <= most <= 4
    await running.stopped()
    await until(lambda: not queue.backends())
