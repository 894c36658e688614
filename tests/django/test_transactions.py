"""``context.transaction()`` in a Django project: the rows of the ORM and the success of the job commit together."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction

from procrastinate import exceptions
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob
from procrastinate.job_context import JobContext
from procrastinate.limits import Limit
from tests.django.shop.models import Order
from tests.django.shop.tasks import die_at_commit, ship
from tests.django.support import manage

pytestmark = pytest.mark.usefixtures("project")


def _run_worker(**options: Any) -> None:
    app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False, queues=["default"], **options)


def _state() -> tuple[list[str], list[str], list[str]]:
    """The orders, and the jobs of the two queues, as others see them."""
    orders = list(Order.objects.values_list("product", flat=True))
    by_queue = [
        list(ProcrastinateJob.objects.filter(queue_name=queue).values_list("status", flat=True))
        for queue in ("default", "later")
    ]
    return orders, by_queue[0], by_queue[1]


def test_rows_follow_ups_and_the_success_of_the_job_are_committed_together() -> None:
    inside: list[Any] = []

    @app.task(name="transactional", pass_context=True)
    def task(context: JobContext) -> None:
        with context.transaction():
            Order.objects.create(product="book")
            ship.configure(queue="later").defer(order_id=1)
            seen = threading.Thread(target=lambda: inside.append(_state_and_close()))
            seen.start()
            seen.join()
        inside.append(_state())

    task.defer()
    _run_worker()
    del app.tasks["transactional"]
    assert inside == [([], ["doing"], []), (["book"], ["succeeded"], ["todo"])]


def _state_and_close() -> tuple[list[str], list[str], list[str]]:
    try:
        return _state()
    finally:
        connections.close_all()


def test_so_are_those_of_an_async_task_on_a_connection_of_its_own() -> None:
    """Another async task on Django's shared connection is not in its transaction, and stays when it is rolled back."""
    inside: list[Any] = []
    begun: list[Any] = []
    both_begun, written = asyncio.Event(), asyncio.Event()

    @app.task(name="transactional", pass_context=True)
    async def task(context: JobContext, ends: bool) -> None:
        async with context.transaction():
            await Order.objects.acreate(product=f"book, {ends}")
            await ship.configure(queue="later").defer_async(order_id=1)
            begun.append(await sync_to_async(lambda: connection.connection)())
            if len(begun) == 2:
                both_begun.set()
            await written.wait()
            if not ends:
                raise ValueError("on purpose")
        inside.append(await sync_to_async(_state)())

    @app.task(name="other")
    async def other() -> None:
        await both_begun.wait()
        await Order.objects.acreate(product="other")
        written.set()

    ids = [task.defer(ends=True), task.defer(ends=False), other.defer()]
    _run_worker(concurrency=3)
    del app.tasks["transactional"], app.tasks["other"]
    statuses = [ProcrastinateJob.objects.get(pk=job_id).status for job_id in ids]
    assert statuses == ["succeeded", "failed", "succeeded"]
    assert set(Order.objects.values_list("product", flat=True)) == {"book, True", "other"}
    assert ProcrastinateJob.objects.filter(queue_name="later").count() == 1
    assert begun[0] is not begun[1]
    assert all(one.closed for one in begun)


def test_a_hold_off_is_no_part_of_the_transaction_of_the_task() -> None:
    """It is stored at once, and the transaction holds no lock that admissions take."""
    seen: list[Any] = []

    def look(pid: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT limit_key FROM procrastinate_hold_offs")
            seen.extend(cursor.fetchall())
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = %s", [pid])
            seen.extend(cursor.fetchall())
        connections.close_all()

    @app.task(name="told_to_wait", pass_context=True, limit=Limit("service", concurrency=5))
    def task(context: JobContext) -> None:
        with transaction.atomic():
            Order.objects.create(product="book")
            context.hold_off(600)
            looking = threading.Thread(target=look, args=(connection.connection.info.backend_pid,))
            looking.start()
            looking.join()
            raise ValueError("on purpose")

    task.defer()
    _run_worker()
    del app.tasks["told_to_wait"]
    assert seen == [("",), (0,)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_hold_offs")
        assert cursor.fetchone() == (1,)


def test_what_a_block_that_raises_has_written_vanishes_and_the_job_is_tried_again() -> None:
    @app.task(name="transactional", pass_context=True, retry=1)
    def task(context: JobContext) -> None:
        with context.transaction():
            Order.objects.create(product="book")
            if context.job.attempts == 0:
                raise ValueError("on purpose")

    task.defer()
    _run_worker()
    del app.tasks["transactional"]
    assert _state() == (["book"], ["succeeded"], [])


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_job_whose_hook_on_commit_raises_has_succeeded(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    def mail() -> None:
        raise ConnectionRefusedError("no smtp")

    def write() -> None:
        Order.objects.create(product="book")
        transaction.on_commit(mail)

    def task(context: JobContext) -> None:
        with context.transaction():
            write()

    async def task_async(context: JobContext) -> None:
        async with context.transaction():
            await sync_to_async(write)()

    declared = app.task(name="transactional", pass_context=True, retry=1)(task if kind == "sync" else task_async)
    declared.defer()
    _run_worker()
    del app.tasks["transactional"]
    assert _state() == (["book"], ["succeeded"], [])
    actions = {vars(record).get("action") for record in caplog.records}
    assert "raised_after_commit" in actions
    assert "outcome_refused" not in actions


def test_a_job_that_was_given_to_another_is_rolled_back() -> None:
    """The fence."""
    raised: list[BaseException] = []

    @app.task(name="transactional", pass_context=True)
    def task(context: JobContext) -> None:
        try:
            with context.transaction():
                Order.objects.create(product="book")
                if context.job.attempts == 0:
                    thread = threading.Thread(target=_send_back, args=[context.job.id])
                    thread.start()
                    thread.join()
        except BaseException as error:
            raised.append(error)
            raise

    job_id = task.defer()
    _run_worker()
    del app.tasks["transactional"]
    assert [type(error) for error in raised] == [exceptions.JobNotHeld]
    assert _state() == (["book"], ["succeeded"], [])
    assert ProcrastinateJob.objects.get(pk=job_id).attempts == 2


def _send_back(job_id: int) -> None:
    try:
        app.job_manager.retry_job_by_id(job_id)
    finally:
        connections.close_all()


def test_the_transaction_of_a_job_is_the_outermost_block_and_takes_no_bind() -> None:
    """Inside another block it would not be committed at its end."""
    refused: list[str] = []

    @app.task(name="transactional", pass_context=True)
    def task(context: JobContext) -> None:
        with transaction.atomic(), pytest.raises(RuntimeError, match="durable") as nested, context.transaction():
            raise AssertionError("not reached")
        with pytest.raises(TypeError, match="no Engine") as bound:
            context.transaction(sa.create_engine("postgresql+psycopg:///db"))
        refused.extend([str(nested.value), str(bound.value)])

    task.defer()
    _run_worker()
    del app.tasks["transactional"]
    assert (len(refused), _state()) == (2, ([], ["succeeded"], []))


@pytest.mark.parametrize(("moment", "runs"), [("before", 2), ("after", 1)])
def test_killed_around_the_commit_a_task_has_its_effects_once(project_url: str, moment: str, runs: int) -> None:
    """Killed before the commit, nothing of the first run is there; after it, there is no second run."""
    job_id = die_at_commit.defer(moment=moment)
    worker = ("procrastinate", "worker", "--one-shot", "--queues=default", "--no-listen-notify")
    killed = manage(*worker, url=project_url)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
    done = manage(*worker, url=project_url)
    assert done.returncode == 0, done.stderr
    assert _state() == (["once"], ["succeeded"], ["todo"])
    assert ProcrastinateEvent.objects.filter(job_id=job_id, type="started").count() == runs
