"""Tools for testing tasks, with or without a database."""

from __future__ import annotations

from procrastinate.testing.connector import InMemoryConnector
from procrastinate.testing.job_runner import RunRecord
from procrastinate.testing.jobs import Jobs
from procrastinate.testing.matching import JobFields
from procrastinate.testing.run_at_defer import RunAtDefer
from procrastinate.testing.test_case import JobsMixin
from procrastinate.testing.worker_thread import WorkerThread

__all__ = ["InMemoryConnector", "JobFields", "Jobs", "JobsMixin", "RunAtDefer", "RunRecord", "WorkerThread"]
