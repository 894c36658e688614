"""A one-shot worker looks first whether there is anything to do, on the connection that the app has open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from procrastinate import core
from procrastinate.schema import SchemaManager
from procrastinate.worker.worker_settings import WorkerSettings

if TYPE_CHECKING:
    from procrastinate.app import App

_PATIENCE = 2.0
"""Seconds. A server that does not answer is a matter for the worker's own connections, which wait no longer than they
must."""


async def finds_nothing(app: App, settings: WorkerSettings) -> bool:
    """Return whether a worker that does not wait has nothing to do.

    It need not connect, register and beat then: that takes ten times as long as the look. If the look fails, the worker
    starts, and meets what is wrong.
    """
    if settings.wait or app.periodic_registry.periodic_tasks:
        return False
    look = asyncio.create_task(_is_empty(app, settings))
    try:
        await asyncio.wait({look}, timeout=_PATIENCE)
        return look.done() and look.exception() is None and look.result()
    finally:
        look.cancel()  # without waiting for it: a server that is gone does not answer that, either


async def _is_empty(app: App, settings: WorkerSettings) -> bool:
    async with app.connector.brief_use():
        if await app.connector.run_async(core.has_work, queues=settings.queues):
            return False
        await SchemaManager(app.connector).check_schema_async()  # last: the worker that starts would warn again
        return True
