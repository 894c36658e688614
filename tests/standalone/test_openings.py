"""Blocks in which an app is open: one in another, side by side, and next to calls of ``open()``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from procrastinate import App, exceptions
from tests.standalone.waiting import wait_until


@pytest.fixture
def app(database_url: str) -> App:
    return App(connector=database_url)


def defer(app: App) -> None:
    app.configure_task("task").defer()


async def defer_async(app: App) -> None:
    await app.configure_task("task").defer_async()


def test_the_end_of_a_block_in_a_block_leaves_the_app_open(
    app: App, count_jobs: Callable[[], int], count_connections: Callable[[], int]
) -> None:
    assert count_jobs() == 0  # this connects
    before = count_connections()
    with app.open():
        with app.open():
            defer(app)
        defer(app)
    assert count_jobs() == 2
    wait_until(lambda: count_connections() == before, "the end of the connections")
    with pytest.raises(exceptions.AppNotOpen):
        defer(app)


async def test_the_end_of_an_async_block_in_a_block_leaves_the_app_open(
    app: App, count_jobs: Callable[[], int]
) -> None:
    async with app.open_async():
        async with app.open_async():
            await defer_async(app)
        await defer_async(app)
    assert count_jobs() == 2
    with pytest.raises(exceptions.AppNotOpen):
        await defer_async(app)


def test_the_block_of_one_thread_does_not_close_the_app_under_another(app: App, count_jobs: Callable[[], int]) -> None:
    is_open, has_ended = threading.Event(), threading.Event()

    def other() -> None:
        with app.open():
            is_open.set()
            has_ended.wait()
            defer(app)

    thread = threading.Thread(target=other)
    with app.open():
        thread.start()
        is_open.wait()
    has_ended.set()
    thread.join()
    assert count_jobs() == 1
    with pytest.raises(exceptions.AppNotOpen):
        defer(app)


async def test_the_block_of_one_asyncio_task_does_not_close_the_app_under_another(
    app: App, count_jobs: Callable[[], int]
) -> None:
    """As in two requests of a web application, each with a block of its own."""

    async def request(number: int) -> None:
        async with app.open_async():
            for _ in range(number):
                await defer_async(app)

    await asyncio.gather(*(request(number) for number in range(1, 6)))
    assert count_jobs() == 15
    with pytest.raises(exceptions.AppNotOpen):
        await defer_async(app)


async def test_a_block_leaves_an_app_open_that_a_call_has_opened(app: App, count_jobs: Callable[[], int]) -> None:
    app.open()
    with app.open():
        defer(app)
    defer(app)
    await app.open_async()
    async with app.open_async():
        await defer_async(app)
    await defer_async(app)
    assert count_jobs() == 4
    app.close()
    await app.close_async()
    with pytest.raises(exceptions.AppNotOpen):
        defer(app)


async def test_close_closes_an_app_inside_a_block(app: App) -> None:
    with app.open():
        app.close()
        with pytest.raises(exceptions.AppNotOpen):
            defer(app)
    async with app.open_async():
        await app.close_async()
        with pytest.raises(exceptions.AppNotOpen):
            await defer_async(app)
    with app.open():
        defer(app)


async def test_a_block_that_cannot_open_does_not_count(app: App) -> None:
    with pytest.raises(TypeError):
        async with app.open_async("no pool"):
            pass
    with pytest.raises(TypeError):
        app.open("no pool")
    async with app.open_async():
        await defer_async(app)
    with pytest.raises(exceptions.AppNotOpen):
        await defer_async(app)
