"""A connector without a database: it remembers what it was asked to store."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from procrastinate import core
from procrastinate.connector import BaseConnector
from procrastinate.jobs import Job


class RecordingConnector(BaseConnector):
    """Gives ids to the jobs that it is handed, and keeps them in ``stored``."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: list[core.NewJob] = []
        self.operations: list[Any] = []
        self.connections: list[Any] = []
        self.taken = False
        self._ids = itertools.count(1)

    def run(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """Store new jobs; with ``taken``, behave as if their queueing lock were taken."""
        self.operations.append(operation)
        if operation is core.find_taken_queueing_lock:
            return args[0][0]
        if self.taken:
            return None
        if operation is core.defer_jobs_alike:
            pattern, all_args = args
            args = ([dataclasses.replace(pattern, args=one) for one in all_args],)
        (given,) = args
        if operation in (core.defer_job, core.defer_job_or_skip):
            self.stored.append(given)
            return next(self._ids)
        self.stored += given
        return [next(self._ids) for _ in given]

    async def run_async(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """As :meth:`run`."""
        return self.run(operation, *args, **kwargs)

    def run_on(self, connection: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """As :meth:`run`, and remember the user's connection."""
        self.connections.append(connection)
        return self.run(operation, *args, **kwargs)

    async def run_on_async(self, connection: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """As :meth:`run_on`."""
        return self.run_on(connection, operation, *args, **kwargs)


def make_job(**overrides: Any) -> Job:
    """A job of which a test names only what matters to it."""
    values: dict[str, Any] = {"id": 1, "queue": "default", "lock": None, "queueing_lock": None, "task_name": "task"}
    return Job(**values | overrides)
