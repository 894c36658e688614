"""Defers one job at a time without Django, compared with the bare INSERT of the same row through the same driver.

Blocks of the two alternate, so that a disturbance affects both.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import BARE_INSERT, BARE_ROW, add_noop_tasks, make_app, make_sync_app
from procrastinate import App

_BLOCK = 50


async def time_blocks(jobs: int, *actions: Callable[[int], Awaitable[Any]]) -> list[float]:
    """Return the total seconds of each asynchronous action."""
    seconds = [0.0] * len(actions)
    for first in range(0, jobs, _BLOCK):
        for index, action in enumerate(actions):
            began = time.perf_counter()
            for number in range(first, first + _BLOCK):
                await action(number)
            seconds[index] += time.perf_counter() - began
    return seconds


def time_blocks_sync(jobs: int, *actions: Callable[[int], Any]) -> list[float]:
    """Do the same as :func:`time_blocks` for synchronous actions."""
    seconds = [0.0] * len(actions)
    for first in range(0, jobs, _BLOCK):
        for index, action in enumerate(actions):
            began = time.perf_counter()
            for number in range(first, first + _BLOCK):
                action(number)
            seconds[index] += time.perf_counter() - began
    return seconds


async def measure_async(app: App, url: str, jobs: int) -> list[float]:
    """Defer in an event loop."""
    task = app.tasks["noop"]
    async with app.open_async(), await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

        async def defer(number: int) -> None:
            await task.defer_async(number=number)

        async def insert(number: int) -> None:
            cursor = await connection.execute(BARE_INSERT, BARE_ROW)
            await cursor.fetchone()

        await time_blocks(_BLOCK, defer, insert)
        return await time_blocks(jobs, defer, insert)


def measure_sync(app: App, url: str, jobs: int) -> list[float]:
    """Defer in synchronous code."""
    task = app.tasks["noop"]
    with app.open(), psycopg.connect(url, autocommit=True) as connection:

        def insert(number: int) -> None:
            connection.execute(BARE_INSERT, BARE_ROW).fetchone()

        def defer(number: int) -> None:
            task.defer(number=number)

        time_blocks_sync(_BLOCK, defer, insert)
        return time_blocks_sync(jobs, defer, insert)


async def main() -> None:
    asked = driving.request()
    app = make_app(asked["url"])
    add_noop_tasks(app, driving.Effects(0))
    driving.say("ready")
    driving.wait_for_word()
    defers, bare = await measure_async(app, asked["url"], asked["jobs"])
    driving.say("done", defers=defers, bare=bare, rows=2 * (asked["jobs"] + _BLOCK))


def main_sync() -> None:
    """Do the same as :func:`main`, without an event loop."""
    asked = driving.request()
    app = make_sync_app(asked["url"])
    add_noop_tasks(app, driving.Effects(0))
    driving.say("ready")
    driving.wait_for_word()
    defers, bare = measure_sync(app, asked["url"], asked["jobs"])
    driving.say("done", defers=defers, bare=bare, rows=2 * (asked["jobs"] + _BLOCK))


if driving.request()["kind"] == "sync":
    main_sync()
else:
    driving.run(main())
