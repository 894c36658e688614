"""Every operation of the queue, sync and async. What ``__all__`` names is public; the modules are private."""

from __future__ import annotations

from procrastinate.manager.job_manager import QUEUEING_LOCK_CONSTRAINT, JobManager, NotificationCallback
from procrastinate.manager.limit_calls import Limits

__all__ = ["QUEUEING_LOCK_CONSTRAINT", "JobManager", "Limits", "NotificationCallback"]
