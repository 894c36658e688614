"""Backends that stand in for Django's own two in Django's own tests: the queue is looked at, or worked off, at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections

from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.contrib.django.tasks import ProcrastinateBackend

R = TypeVar("R")


class Waiting(ProcrastinateBackend):
    """Nobody works: for tests that look at what was enqueued, by the names that Django's dummy has for that."""

    @property
    def results(self) -> list[Any]:
        """All results, from the table."""
        ids = _in_thread(lambda: [*ProcrastinateJob.objects.order_by("pk").values_list("pk", flat=True)])
        return _in_thread(lambda: [self.get_result(str(job_id)) for job_id in ids])

    def clear(self) -> None:
        """Forget all jobs."""
        for result in self.results:
            app.job_manager.cancel_job_by_id(int(result.id), delete_job=True)

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Enqueue, and read the result: the times are the database's."""
        result = super().enqueue(task, args, kwargs)
        result.refresh()
        return result

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """As :meth:`enqueue`."""
        result = await super().aenqueue(task, args, kwargs)
        await result.arefresh()
        return result


class Draining(ProcrastinateBackend):
    """A worker runs each job at once."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Enqueue, run, and read the result."""
        result = super().enqueue(task, args, kwargs)
        _in_thread(_work)
        result.refresh()
        return result

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """As :meth:`enqueue`."""
        return await sync_to_async(self.enqueue)(task, args, kwargs)


def _in_thread(call: Callable[[], R]) -> R:
    """Call it where no event loop runs, whoever asks."""
    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(call).result()
        finally:
            thread.submit(connections.close_all).result()


def _work() -> None:
    app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False)
