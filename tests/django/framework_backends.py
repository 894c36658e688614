"""Backends that replace Django's dummy and immediate backends in Django's own tests."""

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
    """Replaces Django's dummy backend: no worker runs, and tests read the enqueued jobs from `results`."""

    @property
    def results(self) -> list[Any]:
        """Return the results of all jobs in the table."""
        ids = _in_thread(lambda: [*ProcrastinateJob.objects.order_by("pk").values_list("pk", flat=True)])
        return _in_thread(lambda: [self.get_result(str(job_id)) for job_id in ids])

    def clear(self) -> None:
        """Delete all jobs."""
        for result in self.results:
            app.job_manager.cancel_job_by_id(int(result.id), delete_job=True)

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Enqueue, and refresh the result, because its times come from the database."""
        result = super().enqueue(task, args, kwargs)
        result.refresh()
        return result

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Like :meth:`enqueue`."""
        result = await super().aenqueue(task, args, kwargs)
        await result.arefresh()
        return result


class Draining(ProcrastinateBackend):
    """Replaces Django's immediate backend: a worker runs each job at once."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Enqueue and run the job, and refresh the result."""
        result = super().enqueue(task, args, kwargs)
        _in_thread(_work)
        result.refresh()
        return result

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Like :meth:`enqueue`."""
        return await sync_to_async(self.enqueue)(task, args, kwargs)


def _in_thread(call: Callable[[], R]) -> R:
    """Call a function in a new thread, in which no event loop runs, and return its result."""
    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(call).result()
        finally:
            thread.submit(connections.close_all).result()


def _work() -> None:
    app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False)
