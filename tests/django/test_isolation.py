"""The state of one job never reaches another through Django: its connections, transactions, language and caches."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.cache import cache, caches
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created
from django.utils import timezone, translation

from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.job_context import JobContext
from procrastinate.tasks import Task
from tests.database import libpq_url
from tests.django.shop.models import Order

pytestmark = pytest.mark.usefixtures("project")

Declare = Callable[..., Task[Any, Any, Any]]


def _run_worker(**options: Any) -> None:
    app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False, **options)


@pytest.fixture
def declare() -> Iterator[Declare]:
    """Declares tasks of the project's app that are gone after the test. ``is_async`` calls them through Django."""
    names: list[str] = []

    def declare(function: Callable[..., Any], *, is_async: bool = False, **options: Any) -> Task[Any, Any, Any]:
        async def call_async(**arguments: Any) -> Any:
            return await sync_to_async(function)(**arguments)

        names.append(f"isolation {len(names)}")
        return app.task(name=names[-1], **options)(call_async if is_async else function)

    yield declare
    for name in names:
        del app.tasks[name]


@pytest.fixture(params=[0, 60])
def max_age(request: pytest.FixtureRequest) -> Iterator[int]:
    """CONN_MAX_AGE: connections are closed after each job, and are kept. Those are closed after the test."""
    opened: list[Any] = []

    def collect(connection: Any, **_: Any) -> None:
        opened.append(connection.connection)

    settings = connections.settings["default"]
    settings["CONN_MAX_AGE"] = request.param
    connection_created.connect(collect)
    yield request.param
    connection_created.disconnect(collect)
    settings["CONN_MAX_AGE"] = 0
    for one in opened:
        one.close()


def _wrapper() -> Any:
    return connections["default"]


def _statuses() -> set[str]:
    return set(ProcrastinateJob.objects.values_list("status", flat=True))


@pytest.mark.parametrize("is_async", [False, True])
def test_a_job_finds_nothing_that_the_last_one_has_set_on_the_connection(
    declare: Declare, max_age: int, is_async: bool
) -> None:
    seen: list[Any] = []

    def refuse(execute: Any, *query: Any) -> Any:
        raise AssertionError("the statement of a later job")

    def change() -> None:
        Order.objects.count()
        used = _wrapper()
        seen.append((getattr(used, "tenant", "public"), list(used.execute_wrappers), used.force_debug_cursor))
        used.tenant, used.force_debug_cursor = "acme", True
        used.execute_wrappers.append(refuse)

    declare(change, is_async=is_async).batch_defer(*[{}] * 5)
    _run_worker()
    assert seen == [("public", [], False)] * 5


def test_a_reference_to_the_connection_that_a_module_keeps_stays_usable(declare: Declare, max_age: int) -> None:
    kept: list[Any] = []

    def use() -> None:
        kept.append(_wrapper())
        with kept[0].cursor() as cursor:
            cursor.execute("SELECT 1")

    declare(use).batch_defer(*[{}] * 3)
    _run_worker()
    assert _statuses() == {"succeeded"}
    assert kept[0] is kept[1] is kept[2]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_connection_is_kept_for_the_next_job_whatever_was_set_on_it(
    declare: Declare, max_age: int, is_async: bool
) -> None:
    backends: list[int] = []

    def look() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            backends.extend(cursor.fetchone())
        _wrapper().tenant = "acme"

    declare(look, is_async=is_async).batch_defer(*[{}] * 5)
    _run_worker()
    assert len(set(backends)) == (1 if max_age else 5)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_transaction_that_a_job_leaves_open_is_rolled_back(declare: Declare, max_age: int, is_async: bool) -> None:
    def leave_open() -> None:
        transaction.atomic().__enter__()
        Order.objects.create(product="lost")

    def write() -> None:
        Order.objects.create(product="kept")

    declare(leave_open, is_async=is_async).defer()
    declare(write, is_async=is_async).defer()
    _run_worker()
    assert list(Order.objects.values_list("product", flat=True)) == ["kept"]
    assert _statuses() == {"succeeded"}


@pytest.mark.parametrize("is_async", [False, True])
def test_autocommit_is_on_when_a_job_starts(declare: Declare, max_age: int, is_async: bool) -> None:
    seen: list[bool] = []

    def turn_off() -> None:
        seen.append(transaction.get_autocommit())
        transaction.set_autocommit(False)
        Order.objects.create(product="lost")

    declare(turn_off, is_async=is_async).batch_defer({}, {})
    _run_worker()
    assert seen == [True, True]
    assert not Order.objects.exists()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_broken_connection_does_not_reach_the_next_job(declare: Declare, max_age: int, is_async: bool) -> None:
    def break_it() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    def write() -> None:
        Order.objects.create(product="book")

    declare(break_it, is_async=is_async).defer()
    declare(write, is_async=is_async).defer()
    _run_worker()
    assert Order.objects.get().product == "book"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_job_starts_in_the_language_and_the_time_zone_of_the_project(declare: Declare, is_async: bool) -> None:
    seen: list[tuple[str | None, str]] = []

    def activate() -> None:
        seen.append((translation.get_language(), timezone.get_current_timezone_name()))
        translation.activate("fr")
        timezone.activate("Asia/Tokyo")

    declare(activate, is_async=is_async).batch_defer(*[{}] * 50)
    expected = (translation.get_language(), timezone.get_current_timezone_name())
    _run_worker()
    assert seen == [expected] * 50


@pytest.mark.parametrize("is_async", [False, True])
def test_a_job_sees_the_language_that_the_program_has_activated(declare: Declare, is_async: bool) -> None:
    seen: list[str | None] = []

    def activate() -> None:
        seen.append(translation.get_language())
        translation.activate("fr")

    declare(activate, is_async=is_async).batch_defer(*[{}] * 3)
    with translation.override("de"):
        _run_worker()
        assert translation.get_language() == "de"
    assert seen == ["de"] * 3


@pytest.mark.parametrize("is_async", [False, True])
def test_the_language_of_middleware_is_that_of_the_task(declare: Declare, is_async: bool) -> None:
    seen: list[str | None] = []

    async def in_french(call_next: Callable[[], Any], context: JobContext, worker: Any) -> Any:
        with translation.override("fr"):
            result = await call_next()
            seen.append(translation.get_language())
        return result

    declare(lambda: seen.append(translation.get_language()), is_async=is_async).defer()
    _run_worker(worker_middleware=[in_french])
    assert seen == ["fr", "fr"]


def test_async_jobs_that_run_at_once_have_a_connection_each(declare: Declare, max_age: int) -> None:
    """What one sets, and the transaction that it has open, are not the other's; its clean-up closes its own."""
    walked: list[int] = []
    shorts_ended = threading.Event()
    tenants: list[str] = []

    async def walk() -> None:
        def enter() -> None:
            _wrapper().tenant = "acme"

        await sync_to_async(enter)()
        count = 0
        async for _ in Order.objects.aiterator(chunk_size=5):
            count += 1
            if count == 5:
                await asyncio.to_thread(shorts_ended.wait, 30)
        walked.append(count)

    async def short(is_last: bool) -> None:
        await Order.objects.acount()
        tenants.append(await sync_to_async(lambda: getattr(_wrapper(), "tenant", "public"))())
        if is_last:
            shorts_ended.set()

    Order.objects.bulk_create(Order(product=str(number)) for number in range(50))
    walking = declare(walk)
    ending = declare(short)
    walking.defer()
    ending.batch_defer(*({"is_last": number == 19} for number in range(20)))
    _run_worker(concurrency=2)
    assert _statuses() == {"succeeded"}
    assert walked == [50]
    assert tenants == ["public"] * 20


def test_async_functions_under_a_sync_decorator_have_a_connection_each(declare: Declare, max_age: int) -> None:
    """A thread is not shared while two of them run, and the next job finds nothing of the last."""
    both_run = asyncio.Barrier(2)
    seen: list[tuple[int, str]] = []

    def look(number: int) -> None:
        _wrapper().ensure_connection()
        seen.append((_wrapper().connection.info.backend_pid, getattr(_wrapper(), "tenant", "public")))
        _wrapper().tenant = f"tenant {number}"

    async def work(number: int) -> None:
        await sync_to_async(look)(number)
        if number < 2:
            await both_run.wait()

    task = declare(lambda number: work(number))
    task.batch_defer({"number": 0}, {"number": 1})
    _run_worker(concurrency=2)
    task.defer(number=2)
    _run_worker()
    assert _statuses() == {"succeeded"}
    assert seen[0][0] != seen[1][0]
    assert [tenant for _, tenant in seen] == ["public"] * 3


def test_what_an_async_job_writes_is_not_in_the_open_transaction_of_another(declare: Declare) -> None:
    is_open, has_written = asyncio.Event(), asyncio.Event()

    async def roll_back() -> None:
        block = transaction.atomic()
        await sync_to_async(block.__enter__)()
        is_open.set()
        await has_written.wait()
        error = ValueError()
        await sync_to_async(block.__exit__)(ValueError, error, None)

    async def write() -> None:
        await is_open.wait()
        await Order.objects.acreate(product="kept")
        has_written.set()

    declare(roll_back).defer()
    declare(write).defer()
    _run_worker(concurrency=2)
    assert Order.objects.get().product == "kept"


def test_an_async_job_that_uses_no_orm_has_no_thread(declare: Declare) -> None:
    seen: set[threading.Thread] = set()
    before = set(threading.enumerate())

    async def look() -> None:
        seen.update(threading.enumerate())

    declare(look).batch_defer(*[{}] * 5)
    _run_worker(concurrency=5)
    assert seen - before
    assert not [thread for thread in seen - before if thread.name.startswith("procrastinate-django")]


def test_what_an_async_job_leaves_running_uses_no_thread_of_a_later_job(declare: Declare) -> None:
    threads: list[list[int]] = [[], []]
    left: list[asyncio.Task[None]] = []
    next_runs, next_may_end = asyncio.Event(), asyncio.Event()

    async def look(where: int) -> None:
        threads[where].append(await sync_to_async(threading.get_ident)())

    async def look_later() -> None:
        await next_runs.wait()
        await look(0)
        next_may_end.set()

    async def leave() -> None:
        await look(0)
        left.append(asyncio.create_task(look_later()))

    async def follow() -> None:
        await look(1)
        next_runs.set()
        await next_may_end.wait()

    declare(leave).defer()
    declare(follow).defer()
    _run_worker()
    assert threads[0][0] == threads[1][0]
    assert threads[0][1] != threads[1][0]


def test_a_worker_inside_async_to_sync_leaves_a_transaction_of_its_caller_alone(declare: Declare) -> None:
    """As an async test of Django's TestCase runs one: all of its synchronous code is in the thread of the test."""

    async def count() -> None:
        await Order.objects.acount()

    async def run() -> None:
        await app.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False, concurrency=3)

    declare(count).batch_defer(*[{}] * 5)
    with transaction.atomic():
        Order.objects.create(product="book")
        async_to_sync(run)()
        assert Order.objects.count() == 1
    assert _statuses() == {"succeeded"}


def test_a_worker_inside_async_to_sync_recovers_from_a_broken_connection(declare: Declare) -> None:
    async def break_it() -> None:
        await sync_to_async(lambda: connection.cursor().execute("SELECT pg_terminate_backend(pg_backend_pid())"))()

    async def write() -> None:
        await Order.objects.acreate(product="book")

    async def run() -> None:
        await app.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)

    declare(break_it).defer()
    declare(write).defer()
    async_to_sync(run)()
    assert Order.objects.get().product == "book"


@pytest.mark.parametrize("is_async", [False, True])
def test_the_caches_of_a_job_are_closed_with_it(
    declare: Declare, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    """As those of a request are."""
    closed: list[Any] = []
    used: list[Any] = []
    monkeypatch.setattr(type(caches["default"]), "close", lambda self, **_: closed.append(self))

    def use_cache() -> None:
        cache.set("key", 1)
        used.append(caches["default"])

    declare(use_cache, is_async=is_async).defer()
    _run_worker()
    assert closed == used


@pytest.mark.parametrize("is_async", [False, True])
def test_a_cache_that_the_program_has_used_is_shared_with_no_job(
    declare: Declare, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    """Django makes a cache object for each thread. The end of one job must not close that of another."""
    of_the_program: Any = caches["default"]
    used: list[Any] = []
    closed: list[Any] = []
    both_run = threading.Barrier(2)
    one_has_ended = threading.Event()
    monkeypatch.setattr(type(of_the_program), "close", lambda self, **_: (closed.append(self), one_has_ended.set()))

    def use_cache(goes_on: bool) -> None:
        own = caches["default"]
        cache.set("key", 1)
        used.append(own)
        both_run.wait(30)
        if goes_on:
            assert one_has_ended.wait(30)
            assert own not in closed

    declare(use_cache, is_async=is_async).batch_defer({"goes_on": True}, {"goes_on": False})
    _run_worker(concurrency=2)
    assert _statuses() == {"succeeded"}
    assert of_the_program not in used
    assert used[0] is not used[1]
    assert caches["default"] is of_the_program


def test_a_connection_that_a_test_shares_with_the_job_stays_as_it_is(declare: Declare) -> None:
    seen: list[Any] = []
    shared = _wrapper()

    def look(context: JobContext) -> None:
        connections["default"] = shared
        seen.append(Order.objects.count())

    shared.inc_thread_sharing()
    try:
        declare(look, pass_context=True).defer()
        Order.objects.count()
        before = shared.connection
        _run_worker()
    finally:
        shared.dec_thread_sharing()
    assert seen == [0]
    assert shared.connection is before


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_inside_async_to_sync_closes_no_connection_that_its_caller_reads_from(
    declare: Declare, max_age: int, workers: int
) -> None:
    Order.objects.bulk_create([Order(product="read") for _ in range(100)])
    task = declare(_read_orders, is_async=True)
    task.batch_defer(*[{}] * 20)

    async def read_slowly() -> int:
        read = 0
        async for _ in Order.objects.order_by("pk").aiterator(chunk_size=10):
            read += 1
            await asyncio.sleep(0.005)
        return read

    async def run() -> int:
        options: Any = {"wait": False, "install_signal_handlers": False, "listen_notify": False}
        *_, read = await asyncio.gather(*(app.run_worker_async(**options) for _ in range(workers)), read_slowly())
        return read

    assert async_to_sync(run)() == 100
    assert _statuses() == {"succeeded"}


def _read_orders() -> None:
    assert Order.objects.count() == 100


def test_a_one_shot_worker_leaves_no_connection_open(declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    """Django could not drop the database of a test that runs one."""
    monkeypatch.setattr(app.periodic_registry, "periodic_tasks", {})  # with one, a worker does not look first
    asyncio.run(sync_to_async(connections.close_all)())
    for _ in range(2):  # without a job and with one
        _run_worker()
        end = time.monotonic() + 20
        while _open_sessions() > 1 and time.monotonic() < end:  # the server ends a session a little later
            time.sleep(0.05)
        assert _open_sessions() == 1
        declare(lambda: None).defer()


def _open_sessions() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize("is_async", [False, True])
def test_a_thread_of_a_job_connects_again_after_its_connection_was_cut(
    declare: Declare, project_url: str, is_async: bool, max_age: int
) -> None:
    """A thread that belongs to no job, such as one of `asyncio.to_thread`."""
    with ThreadPoolExecutor(1) as pool, psycopg.connect(libpq_url(project_url), autocommit=True) as server:

        async def count() -> None:
            await asyncio.get_running_loop().run_in_executor(pool, Order.objects.count)

        def cut() -> None:
            pid = connection.connection.info.backend_pid
            server.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

        task = declare(count if is_async else lambda: pool.submit(Order.objects.count).result())
        for after in (lambda: pool.submit(cut).result(), lambda: None, lambda: None):
            task.defer()
            _run_worker()
            after()
        pool.submit(lambda: connection.close()).result()
    statuses = ProcrastinateJob.objects.order_by("id").values_list("status", flat=True)
    assert list(statuses) == ["succeeded", "failed", "succeeded"]
