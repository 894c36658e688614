"""What a job does to the event loop: sys.exit() in a sub-task, loop.stop(), tasks that it cancels."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, cast

import pytest
import sqlalchemy as sa

from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.exceptions import TaskExit
from procrastinate.worker.processes import exits
from tests.worker.running import DEADLINE, LOOK_EVERY, Queue, Workers, connector_for, pending_tasks


async def leave() -> None:
    """Exit after a moment, as a task of its own."""
    await asyncio.sleep(0)
    sys.exit(3)


async def interrupt() -> None:
    """Raise what Ctrl-C would, at once."""
    raise KeyboardInterrupt


async def gather_exit() -> None:
    await asyncio.gather(leave(), asyncio.sleep(0.01))


async def gather_interrupt() -> None:
    await asyncio.gather(interrupt(), asyncio.sleep(0.01))


async def exit_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(leave())


async def await_a_task() -> None:
    await asyncio.create_task(leave(), name="leaves")


async def wait_for_exit() -> None:
    await asyncio.wait_for(leave(), timeout=10)


async def exit_two_tasks_below() -> None:
    async def middle() -> None:
        await asyncio.create_task(leave())

    await asyncio.create_task(middle())


# wait_for() makes a task of a coroutine up to Python 3.11 only.
AWAITED_BY_THE_JOB_ITSELF = [wait_for_exit] if sys.version_info >= (3, 12) else []
AWAITED = [gather_exit, gather_interrupt, exit_in_a_group, await_a_task, wait_for_exit, exit_two_tasks_below]


@pytest.mark.parametrize("poison", AWAITED, ids=lambda one: one.__name__)
async def test_an_exit_in_a_sub_task_fails_its_job_alone(
    app: App, workers: Workers, queue: Queue, poison: Callable[[], Any]
) -> None:
    task = app.task(name="poison")(poison)
    good = app.task(name="good")(lambda: None)
    ids = [await one.defer_async() for one in (good, task, good)]
    await workers.run(concurrency=3)
    assert [queue.status(job_id) for job_id in ids] == [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED]
    (error,) = (await app.job_manager.get_result_async(ids[1])).errors
    assert ("SystemExit: 3" if poison in AWAITED_BY_THE_JOB_ITSELF else "TaskExit") in error.traceback


async def test_an_exit_in_a_task_that_is_left_behind_ends_no_worker(app: App, workers: Workers, queue: Queue) -> None:
    left: list[asyncio.Task[None]] = []

    @app.task(name="leaves_behind")
    async def leaves_behind() -> None:
        left.append(asyncio.create_task(leave()))

    @app.task(name="waits")
    async def waits() -> None:
        await asyncio.wait(left)

    first, second = await leaves_behind.defer_async(), await waits.defer_async()
    await workers.run(concurrency=1)
    assert [queue.status(job_id) for job_id in (first, second)] == [Status.SUCCEEDED, Status.SUCCEEDED]
    assert isinstance(left[0].exception(), TaskExit)


async def test_tasks_of_the_program_keep_their_exits_and_their_factory(app: App, workers: Workers) -> None:
    loop = asyncio.get_running_loop()
    made: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        made.append(coroutine.__name__)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(factory)
    try:
        app.task(name="gathers")(gather_exit)
        await app.configure_task("gathers").defer_async()
        await workers.run()
        assert "leave" in made
        assert loop.get_task_factory() is factory
    finally:
        loop.set_task_factory(None)


def awaiting_factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
    """A task of a coroutine that awaits the given one, as tools that trace tasks make."""

    async def trace() -> Any:
        return await coroutine

    return asyncio.Task(trace(), loop=loop, **options)


FACTORIES: list[Callable[..., Any]] = [awaiting_factory]
if sys.version_info >= (3, 12):
    FACTORIES.append(asyncio.eager_task_factory)


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda one: one.__name__)
async def test_jobs_run_whatever_makes_the_tasks_of_the_loop(
    app: App, workers: Workers, queue: Queue, factory: Callable[..., Any]
) -> None:
    asyncio.get_running_loop().set_task_factory(factory)
    try:
        poison = app.task(name="poison")(gather_exit)

        @app.task(name="good")
        async def good() -> None:
            """End in the turn of the loop in which it starts."""

        ids = await good.batch_defer_async(*[{}] * 200)
        bad = await poison.defer_async()
        await workers.run(concurrency=2)
    finally:
        asyncio.get_running_loop().set_task_factory(None)
    assert {queue.status(job_id) for job_id in ids} == {Status.SUCCEEDED}
    assert queue.status(bad) is Status.FAILED
    (error,) = (await app.job_manager.get_result_async(bad)).errors
    assert "TaskExit" in error.traceback


async def test_a_contained_task_that_never_starts_leaves_no_warning() -> None:
    loop = asyncio.get_running_loop()
    with exits.contained(loop, contextvars.copy_context()), warnings.catch_warnings():
        warnings.simplefilter("error")
        exits.enter_job()
        task = loop.create_task(leave())
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        del task
        gc.collect()


def run_on_a_loop_with(callback: Callable[[], Any], app: App, **options: Any) -> None:
    """Run a worker that has its loop to itself, with a job that leaves a callback there, and five others."""

    @app.task(name="calls")
    async def calls() -> None:
        asyncio.get_running_loop().call_soon(callback)

    @app.task(name="good")
    async def good() -> None:
        await asyncio.sleep(0.05)

    with app.open():
        calls.defer()
        good.batch_defer(*[{}] * 5)
    app.run_worker(wait=False, concurrency=3, **options)


@pytest.mark.parametrize("exception", [SystemExit(1), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_an_exit_in_a_callback_of_a_job_ends_no_worker(
    database_url: str, exception: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def callback() -> None:
        raise exception

    app = App(connector=connector_for(database_url))
    run_on_a_loop_with(callback, app)
    with app.open():
        assert {job.status for job in app.job_manager.list_jobs()} == {"succeeded"}
    assert "the worker goes on" in caplog.text


def test_an_exit_of_the_program_itself_ends_the_run() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 7)
        await asyncio.sleep(30)

    with pytest.raises(SystemExit, match="7"):
        exits.run(main())


def test_what_the_main_coroutine_raises_comes_out_of_the_run() -> None:
    async def main() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        exits.run(main())


def test_an_exit_in_a_callback_ends_no_worker_that_leaves_signals_to_the_program(database_url: str) -> None:
    app = App(connector=connector_for(database_url))
    run_on_a_loop_with(lambda: sys.exit(1), app, install_signal_handlers=False)
    with app.open():
        assert {job.status for job in app.job_manager.list_jobs()} == {"succeeded"}


def test_a_signal_handler_of_the_program_that_exits_ends_the_run(database_url: str) -> None:
    """The program handles its signals itself, so its handler decides."""

    def leave_at_once(*_: Any) -> None:
        sys.exit(5)

    app = App(connector=connector_for(database_url))
    former = signal.signal(signal.SIGUSR1, leave_at_once)
    try:
        with pytest.raises(SystemExit, match="5"):
            run_on_a_loop_with(lambda: signal.raise_signal(signal.SIGUSR1), app, install_signal_handlers=False)
    finally:
        signal.signal(signal.SIGUSR1, former)


def test_an_alarm_of_a_job_that_rings_in_a_turn_of_the_loop_ends_no_worker(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(connector=connector_for(database_url))

    @app.task(name="works")
    async def works() -> None:
        loop, has_rung = asyncio.get_running_loop(), asyncio.Event()

        def ring(*_: Any) -> None:
            loop.call_soon_threadsafe(has_rung.set)
            raise LookupError("time is up")

        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        await has_rung.wait()

    former = signal.getsignal(signal.SIGALRM)
    try:
        with app.open():
            works.defer()
        app.run_worker(wait=False)
    finally:
        signal.signal(signal.SIGALRM, former)
    with app.open():
        assert {job.status for job in app.job_manager.list_jobs()} == {"succeeded"}
    assert "the worker goes on" in caplog.text


def test_a_worker_goes_on_after_a_job_has_stopped_its_loop(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    app = App(connector=connector_for(database_url))
    run_on_a_loop_with(lambda: asyncio.get_running_loop().stop(), app)
    with app.open():
        assert {job.status for job in app.job_manager.list_jobs()} == {"succeeded"}
    assert "the worker goes on" in caplog.text


def test_a_worker_whose_loop_cannot_turn_any_more_ends(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """As after os.closerange(), or a descriptor that is closed twice. Its heart stops, so others rescue its jobs."""
    app = App(connector=connector_for(database_url))

    def break_loop() -> None:
        cast(Any, asyncio.get_running_loop())._selector.close()

    with pytest.raises(RuntimeError, match="The event loop of the worker is broken"):
        run_on_a_loop_with(break_loop, app, update_heartbeat_interval=0.05)
    assert has_soon(lambda: "has ended without the worker" in caplog.text)


def test_the_worker_of_a_loop_that_its_program_closes_stays_registered_while_a_thread_runs_its_job(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The program did not wait for the end of the worker. Nothing can record its jobs, and others run them again."""
    app = App(connector=connector_for(database_url))
    has_begun, may_end = threading.Event(), threading.Event()

    @app.task(name="works")
    def works() -> None:
        has_begun.set()
        assert may_end.wait(30)

    async def start() -> asyncio.Task[None]:
        worker = asyncio.create_task(app.run_worker_async(update_heartbeat_interval=0.05))
        assert await asyncio.to_thread(has_begun.wait, 30)
        return worker

    with app.open():
        works.defer()
        loop = asyncio.new_event_loop()
        worker = loop.run_until_complete(start())
        loop.close()
        assert has_soon(lambda: "has ended without the worker" in caplog.text)
        assert count_workers(database_url) == 1
        may_end.set()
        assert has_soon(lambda: count_workers(database_url) == 0)
    del worker


def count_workers(database_url: str) -> int:
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM procrastinate_workers")).scalar_one())


def has_soon(condition: Callable[[], bool]) -> bool:
    """Wait until the condition holds, at most until the deadline."""
    end = time.monotonic() + DEADLINE
    while not condition() and time.monotonic() < end:
        time.sleep(LOOK_EVERY)
    return condition()


def test_what_cancels_the_run_twice_is_waited_for() -> None:
    ended: list[int] = []

    async def main() -> None:
        for _ in range(2):
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                asyncio.get_running_loop().call_soon(cancel_waiter)
        ended.append(1)

    def cancel_waiter() -> None:
        for waiter in pending_tasks():
            if waiter.get_coro().__name__ == "_end_of":
                waiter.cancel()

    async def start() -> None:
        asyncio.get_running_loop().call_soon(cancel_waiter)
        await main()

    with pytest.raises(asyncio.CancelledError):
        exits.run(start())
    assert ended == [1]


async def cancel_all_tasks() -> None:
    for task in asyncio.all_tasks():
        task.cancel()


async def close_asynchronous_generators() -> None:
    await asyncio.get_running_loop().shutdown_asyncgens()


async def shut_the_default_executor_down() -> None:
    await asyncio.get_running_loop().shutdown_default_executor()


async def close_the_loop() -> None:
    asyncio.get_running_loop().close()


async def set_another_task_factory() -> None:
    asyncio.get_running_loop().set_task_factory(None)


SPOILERS = [
    cancel_all_tasks,
    close_asynchronous_generators,
    shut_the_default_executor_down,
    close_the_loop,
    set_another_task_factory,
]


@pytest.mark.parametrize("spoiler", SPOILERS, ids=lambda one: one.__name__)
def test_what_a_job_does_to_the_event_loop_ends_neither_its_worker_nor_other_jobs(
    database_url: str, spoiler: Callable[[], Any]
) -> None:
    app = App(connector=connector_for(database_url))
    at_work = asyncio.Event()

    @app.task(name="spoils")
    async def spoils() -> None:
        at_work.set()
        await spoiler()

    @app.task(name="good")
    async def good() -> None:
        await at_work.wait()
        await asyncio.sleep(0.05)

    with app.open():
        ids = good.batch_defer(*[{}] * 3)
        bad = spoils.defer()
        ids += good.batch_defer(*[{}] * 6)
    app.run_worker(wait=False, concurrency=4)
    with app.open():
        statuses = {job.id: job.status for job in app.job_manager.list_jobs()}
    assert {statuses[job_id] for job_id in ids} == {"succeeded"}
    assert statuses[bad] in ("succeeded", "failed")
