"""Enqueues one job with a key against duplicates at a time, compared with jobs without a key."""

from __future__ import annotations

import contextlib

import asyncpg
from pgqueuer.db import AsyncpgDriver
from pgqueuer.errors import DuplicateJobError
from pgqueuer.queries import Queries

from benchmarks.peers import driving


async def main() -> None:
    asked = driving.request()
    connection = await asyncpg.connect(asked["url"])
    queries = Queries(AsyncpgDriver(connection))
    driving.say("ready")
    await driving.wait_for_word_async()

    async def enqueue_plain(number: int) -> None:
        await queries.enqueue("noop", str(number).encode())

    async def enqueue_unique(number: int) -> None:
        key = f"key {number}" if asked["way"] == "new key" else "held"
        with contextlib.suppress(DuplicateJobError):
            await queries.enqueue("noop", str(number).encode(), dedupe_key=key)

    await driving.time_both_async(asked["jobs"], enqueue_plain, enqueue_unique)
    await connection.close()


driving.run(main())
