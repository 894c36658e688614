"""Every operation of the queue, sync and async. :class:`JobManager` is public; the modules are private."""

from __future__ import annotations

from procrastinate.manager.job_manager import JobManager

__all__ = ["JobManager"]
