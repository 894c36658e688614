"""A task whose jobs wait for the test."""

from __future__ import annotations

import asyncio

from procrastinate.app import App
from procrastinate.job_context import JobContext


class Gate:
    """A task whose jobs wait until the gate opens."""

    def __init__(self, app: App) -> None:
        self.started: list[int] = []
        self.open = asyncio.Event()
        self.task = app.task(name="wait at the gate", pass_context=True)(self.wait)

    async def wait(self, context: JobContext) -> None:
        """Record that the job has started, and wait."""
        assert context.job.id is not None
        self.started.append(context.job.id)
        await self.open.wait()
