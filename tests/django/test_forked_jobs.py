"""A process that a job forks uses Django's ORM on connections and threads of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections, transaction

from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from tests.django.shop.models import Order
from tests.django.test_isolation import _run_worker

pytestmark = pytest.mark.usefixtures("project")

forking = multiprocessing.get_context("fork")
PATIENCE = 20.0


def _backend_pid() -> int:
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _order(product: str) -> None:
    Order.objects.create(product=product)


def _order_async(product: str) -> None:
    asyncio.run(Order.objects.acreate(product=product))


def _order_on_another_connection(product: str, of_parent: int) -> None:
    assert _backend_pid() != of_parent
    Order.objects.create(product=product)


def _defer(product: str) -> None:
    app.configure_task("shop.fail").defer()


def _start(function: Callable[..., None], *arguments: Any) -> multiprocessing.Process:
    process = forking.Process(target=function, args=("of the child", *arguments))
    process.start()
    return process  # type: ignore[return-value]


def _read_often() -> None:
    """Use the connection at the same time as the child uses its own."""
    for _ in range(50):
        assert not Order.objects.filter(product="none").exists()


@pytest.fixture
def declare() -> Iterator[Callable[..., None]]:
    """Declares a task and defers a job of it. The task is gone after the test."""
    names: list[str] = []

    def declare(function: Callable[..., Any]) -> None:
        names.append(f"fork {len(names)}")
        app.task(name=names[-1])(function).defer()

    yield declare
    for name in names:
        del app.tasks[name]


def _join(process: multiprocessing.Process) -> None:
    process.join(PATIENCE)
    code = process.exitcode
    process.kill()
    assert code == 0


def _statuses() -> list[str]:
    return list(ProcrastinateJob.objects.values_list("status", flat=True).order_by("id"))


@pytest.mark.parametrize("function", [_order, _order_async])
def test_a_fork_of_a_sync_job_and_the_job_use_the_orm_at_the_same_time(
    declare: Callable[..., None], function: Callable[[str], None]
) -> None:
    def fork() -> None:
        _backend_pid()
        process = _start(function)
        _read_often()
        _join(process)
        _read_often()

    declare(fork)
    _run_worker()
    assert _statuses() == ["succeeded"]
    assert list(Order.objects.values_list("product", flat=True)) == ["of the child"]


@pytest.mark.parametrize("function", [_order, _order_async])
def test_a_fork_of_an_async_job_uses_the_orm(declare: Callable[..., None], function: Callable[[str], None]) -> None:
    async def fork() -> None:
        await Order.objects.acount()
        process = _start(function)
        await Order.objects.acount()
        await asyncio.to_thread(_join, process)
        await Order.objects.acount()

    declare(fork)
    _run_worker()
    assert _statuses() == ["succeeded"]
    assert Order.objects.count() == 1


def test_a_fork_inside_a_transaction_is_outside_of_it(declare: Callable[..., None]) -> None:
    def fork() -> None:
        with transaction.atomic():
            Order.objects.create(product="of the parent")
            _join(_start(_order_on_another_connection, _backend_pid()))
            transaction.set_rollback(True)

    declare(fork)
    _run_worker()
    assert _statuses() == ["succeeded"]
    assert list(Order.objects.values_list("product", flat=True)) == ["of the child"]


def test_a_fork_of_a_job_defers(declare: Callable[..., None]) -> None:
    def fork() -> None:
        _backend_pid()
        process = _start(_defer)
        _read_often()
        _join(process)

    declare(fork)
    _run_worker()
    assert _statuses() == ["succeeded", "failed"]
