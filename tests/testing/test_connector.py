"""The in-memory connector in users' tests."""

from __future__ import annotations

import asyncio
import datetime
import functools
import inspect
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.app import App
from procrastinate.core import NewJob
from procrastinate.core.operation_marks import FINDERS
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Status
from procrastinate.testing import InMemoryConnector
from procrastinate.testing.connector import IMPLEMENTED, Listener
from tests.database import new_job
from tests.unit.test_ways_around_refused_rows import operations

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)


WITHOUT_A_FORM = {
    "rates, turns and hold-offs depend on the locks of concurrent transactions": {
        "keep_last_turn", "keep_windows", "next_start", "open_windows_at", "read_held", "read_hold_offs",
        "read_last_turn", "read_room_of_all", "read_rooms", "seconds_to_next_window", "take_open_windows",
        "within_capacity", "read_all_held", "read_terms", "take_slots_back", "wait_for_admissions", "forget_starts",
    },
    "they steer a queue that many programs share": {
        "cancel_bulk_operation", "count_matching_jobs", "delete_ended_job", "load_bulk_operations", "run_job_again",
        "run_job_now", "start_bulk_operation", "step_bulk_operation",
    },
    "they are about the server, its sessions or its schema": {
        "begin_restoring", "begin_worker_session", "clock_difference", "end_restoring", "end_when_left_alone",
        "check_soon", "find_workflow_at",
        "hand_nothing_over", "hand_over_again", "list_workers_of_host", "measure_lag", "notify_nothing", "reach",
        "read_applied", "session_of", "wait_briefly",
    },
    "they are the operations that they wrap": {"briefly", "without_hand_over"},
    "they are statements of other operations": {
        "append_arrivals", "call_workers", "cancel_steps_alone", "decide_on_steps", "execute_together",
        "finish_groups", "waiting_for_groups", "with_rooms",
    },
}  # fmt: skip
"""Names of operations that no job of a user's test passes through, by the reason."""


@pytest.fixture
def connector() -> InMemoryConnector:
    return InMemoryConnector(clock=lambda: NOW)


@pytest.fixture
def app(connector: InMemoryConnector) -> App:
    """Return an in-memory app with a task ``add``."""
    app = App(connector=connector)

    @app.task(name="add", queue="sums")
    def add(a: int, b: int = 0) -> int:
        return a + b

    return app


# Operations


OPERATIONS = [operation for operation in operations() if operation not in FINDERS]
IN_MEMORY = [operation for operation in OPERATIONS if operation in IMPLEMENTED]


@pytest.mark.parametrize("operation", IN_MEMORY, ids=lambda operation: operation.__name__)
def test_a_form_in_memory_has_the_signature_of_its_operation(operation: Callable[..., Any]) -> None:
    _connection, *expected = inspect.signature(operation).parameters.values()
    _tables, *parameters = inspect.signature(IMPLEMENTED[operation]).parameters.values()
    assert parameters == expected


def test_every_operation_has_a_form_in_memory_or_is_listed_without_one() -> None:
    without = {operation.__name__ for operation in OPERATIONS if operation not in IMPLEMENTED}
    assert without == set().union(*WITHOUT_A_FORM.values())


def users_own(connection: sa.Connection, number: int) -> int:
    """Run an operation that needs a real database."""
    return connection.execute(sa.select(sa.literal(number))).scalar_one()


async def test_an_operation_of_the_users_is_refused_by_name(connector: InMemoryConnector) -> None:
    expected = r"tests\.testing\.test_connector\.users_own has no in-memory form"
    with pytest.raises(NotImplementedError, match=expected):
        connector.run(users_own, 1)
    with pytest.raises(NotImplementedError, match=expected):
        await connector.run_async(functools.partial(users_own, number=1))


@pytest.mark.parametrize("wrapper", [core.briefly, core.without_hand_over])
def test_a_wrapper_is_the_operation_that_it_wraps(connector: InMemoryConnector, wrapper: Any) -> None:
    job_id = connector.run(core.defer_job, new_job())
    assert connector.run(wrapper, functools.partial(core.cancel_job, abort=True), job_id, delete=True)
    assert connector.jobs == {}


def test_a_partial_is_the_operation_that_it_wraps(connector: InMemoryConnector) -> None:
    inner = functools.partial(core.cancel_job, abort=True)
    job_id = connector.run(core.defer_job, new_job())
    assert connector.run(functools.partial(inner, delete=True), job_id)
    assert connector.jobs == {}
    assert connector.queries[-1] == ("cancel_job", {"job_id": job_id, "abort": True, "delete": True})


def test_wrong_arguments_are_refused_as_the_operation_would(connector: InMemoryConnector) -> None:
    with pytest.raises(TypeError, match="limit"):
        connector.run(core.fetch_jobs, worker_id=1)  # type: ignore[call-arg]


async def test_a_connection_is_accepted_and_ignored(connector: InMemoryConnector, app: App) -> None:
    unused = object()
    app.configure_task("add", connection=unused).defer(a=1)
    await app.configure_task("add", connection=unused).defer_async(a=2)
    assert app.job_manager.get_job_status(1, connection=unused) is Status.TODO
    assert await app.job_manager.cancel_job_by_id_async(2, connection=unused)
    assert [job["status"] for job in connector.jobs.values()] == ["todo", "cancelled"]


# State for assertions


def test_a_job_is_a_row_of_3x(connector: InMemoryConnector, app: App) -> None:
    job_id = app.configure_task("add", lock="l", queueing_lock="q", priority=2, schedule_at=NOW + SECOND).defer(a=1)
    assert connector.jobs == {
        job_id: {
            "id": 1,
            "queue_name": "sums",
            "task_name": "add",
            "priority": 2,
            "lock": "l",
            "queueing_lock": "q",
            "args": {"a": 1},
            "status": "todo",
            "scheduled_at": NOW + SECOND,
            "attempts": 0,
            "abort_requested": False,
            "worker_id": None,
        }
    }


def test_the_history_of_a_job(connector: InMemoryConnector, app: App) -> None:
    job_id = app.configure_task("add", schedule_at=NOW + SECOND).defer(a=1)
    assert connector.events[job_id] == [
        {"type": "deferred", "at": NOW},
        {"type": "scheduled", "at": NOW + SECOND},
    ]


async def test_workers_locks_and_finished_jobs(connector: InMemoryConnector, app: App) -> None:
    manager = app.job_manager
    for lock in ("l", "m"):
        app.configure_task("add", lock=lock).defer(a=1)
    worker_id = await manager.register_worker()
    job = await manager.fetch_job(None, worker_id)
    assert job is not None
    assert (connector.workers, connector.current_locks) == ({worker_id: NOW}, {"l"})

    await manager.finish_job(job, Status.SUCCEEDED, delete_job=False)
    assert (connector.current_locks, connector.finished_jobs) == (set(), [connector.jobs[1]])


async def test_the_last_tick_of_a_periodic_task(connector: InMemoryConnector, app: App) -> None:
    @app.periodic(cron="* * * * *")
    @app.task(name="tick")
    def tick(timestamp: int) -> None: ...

    for timestamp in (60, 120, 120):
        job = tick.configure().make_new_job(timestamp=timestamp)
        await app.job_manager.defer_periodic_job(job, periodic_id="p", defer_timestamp=timestamp)
    assert connector.periodic_defers == {("tick", "p"): 120}
    assert [job["args"] for job in connector.jobs.values()] == [{"timestamp": 60}, {"timestamp": 120}]


def test_operations_are_noted(connector: InMemoryConnector, app: App) -> None:
    app.configure_task("add").defer(a=1)
    ((name, arguments),) = connector.queries
    assert name == "defer_job"
    assert arguments == {"job": NewJob(queue_name="sums", task_name="add", args='{"a": 1}')}


async def test_opening_and_closing_are_noted(connector: InMemoryConnector, app: App) -> None:
    with app.open():
        pass
    async with app.open_async():
        pass
    assert connector.states == ["open", "closed", "open_async", "closed_async"]


async def test_the_schema_is_there_unless_a_test_says_otherwise(connector: InMemoryConnector, app: App) -> None:
    assert await app.check_connection_async()
    app.schema_manager.check_schema()
    connector.table_exists = False
    assert not app.check_connection()
    await app.schema_manager.apply_schema_async()
    assert app.check_connection()
    assert connector.table_exists


async def test_a_reset_connector_is_as_new(connector: InMemoryConnector, app: App) -> None:
    app.configure_task("add").defer(a=1)
    await app.job_manager.register_worker()
    connector.open()
    connector.reset()
    app.configure_task("add").defer(a=1)
    assert list(connector.jobs) == list(connector.events) == [1]
    assert (connector.workers, connector.states, len(connector.queries)) == ({}, [], 1)


def test_a_row_may_be_changed_and_added_by_a_test(connector: InMemoryConnector, app: App) -> None:
    app.configure_task("add").defer(a=1)
    connector.jobs[2] = {**connector.jobs[1], "id": 2, "status": "failed"}
    connector.jobs[1]["status"] = "doing"
    assert app.configure_task("add").defer(a=1) == 3
    assert [job.status for job in app.job_manager.list_jobs()] == ["doing", "failed", "todo"]


def test_what_a_caller_does_to_its_arguments_later_is_not_seen(connector: InMemoryConnector, app: App) -> None:
    values = [1]
    app.configure_task("elsewhere").defer(values=values)
    values.append(2)
    assert connector.jobs[1]["args"] == {"values": [1]}


def test_arguments_pass_through_the_given_json_functions() -> None:
    connector = InMemoryConnector(
        json_dumps=lambda value: json.dumps(value, default=str),
        json_loads=lambda text: {name: f"<{value}>" for name, value in json.loads(text).items()},
    )
    app = App(connector=connector)
    app.configure_task("t").defer(at=NOW.date())
    assert connector.jobs[1]["args"] == {"at": "2030-01-01"}
    (job,) = app.job_manager.list_jobs()
    assert job.task_kwargs == {"at": "<2030-01-01>"}


# Time


async def test_time_is_what_the_clock_says(connector: InMemoryConnector, app: App) -> None:
    app.configure_task("add", schedule_at=NOW + SECOND).defer(a=1)
    worker_id = await app.job_manager.register_worker()
    assert await app.job_manager.fetch_job(None, worker_id) is None
    assert (await app.job_manager.promote_jobs()).next_due_in == 1

    connector.clock = lambda: NOW + SECOND
    assert await app.job_manager.fetch_job(None, worker_id) is not None
    assert connector.events[1][-1] == {"type": "started", "at": NOW + SECOND}


async def test_a_worker_is_silent_when_the_clock_says_so(connector: InMemoryConnector, app: App) -> None:
    worker_id = await app.job_manager.register_worker()
    assert await app.job_manager.prune_stalled_workers(seconds_since_heartbeat=30) == []
    connector.clock = lambda: NOW + 31 * SECOND
    assert await app.job_manager.prune_stalled_workers(seconds_since_heartbeat=30) == [worker_id]


# Threads


def test_many_threads_defer_and_none_is_lost(connector: InMemoryConnector, app: App) -> None:
    refused: list[AlreadyEnqueued] = []

    def work() -> None:
        for number in range(50):
            try:
                app.configure_task("add", queueing_lock=str(number)).defer(a=number)
            except AlreadyEnqueued as error:
                refused.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(connector.jobs), len(refused)) == (50, 150)
    assert sorted(connector.jobs) == list(range(1, 51))


# Notifications


async def listen(connector: InMemoryConnector, channels: list[str]) -> tuple[asyncio.Task[None], list[Any]]:
    """Start listening in the background, and return once listening has begun."""
    heard: list[Any] = []
    listening = asyncio.Event()

    async def hear(*, channel: str, payload: str) -> None:
        heard.append((channel, json.loads(payload)))

    task = asyncio.create_task(connector.listen_notify(hear, channels, on_listening=listening.set))
    await listening.wait()
    return task, heard


async def test_a_listener_hears_its_channels_from_any_thread_until_it_is_cancelled(
    connector: InMemoryConnector, app: App
) -> None:
    task, heard = await listen(connector, ["procrastinate_queue_v1#sums"])
    await asyncio.to_thread(app.configure_task("add").defer, a=1)
    await app.configure_task("add", queue="other").defer_async(a=1)
    await asyncio.sleep(0.01)
    assert heard == [
        ("procrastinate_queue_v1#sums", {"type": "job_inserted", "job_id": 1, "upcoming": False}),
    ]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    app.configure_task("add").defer(a=1)
    assert len(heard) == 1


async def test_several_listeners_hear(connector: InMemoryConnector, app: App) -> None:
    listeners = [await listen(connector, [channel]) for channel in ("procrastinate_any_queue_v1",) * 2]
    app.configure_task("add").defer(a=1)
    await asyncio.sleep(0.01)
    for task, heard in listeners:
        assert [payload["job_id"] for _, payload in heard] == [1]
        task.cancel()
    assert connector.notify_channels == ["procrastinate_any_queue_v1"]
    assert connector.on_notification is not None


def test_a_listener_whose_loop_was_closed_does_not_break_notifications() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    listener = Listener(frozenset({"channel"}), loop, asyncio.Queue())
    listener.tell("channel", "payload")
    assert listener.heard.empty()
