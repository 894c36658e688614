"""The registration of a worker, which is taken back if the worker stops before the database has answered."""

from __future__ import annotations

import asyncio
import contextlib

from procrastinate.core import WorkerIdentity, WorkerTerms
from procrastinate.manager import JobManager

_TAKE_BACK_TIMEOUT = 1.0
"""Seconds that a worker which is stopped while it registers waits for the answer."""


class Registration:
    """Registers a worker once."""

    def __init__(self, manager: JobManager, terms: WorkerTerms, identity: WorkerIdentity) -> None:
        self._manager = manager
        self._terms = terms
        self._identity = identity
        self._registering: asyncio.Task[int] | None = None

    async def register(self) -> int:
        """Register the worker, and return its id. A cancellation does not stop the statement."""
        self._registering = asyncio.create_task(self._manager.register_worker(self._terms, self._identity))
        return await asyncio.shield(self._registering)

    async def take_back(self) -> None:
        """Remove the worker if the database has registered it, and the answer came too late."""
        if self._registering is not None:
            with contextlib.suppress(Exception):  # the others find out
                async with asyncio.timeout(_TAKE_BACK_TIMEOUT):
                    await self._manager.unregister_worker(await self._registering)
