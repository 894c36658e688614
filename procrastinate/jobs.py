"""Jobs as users see them, and deferrers that make jobs from a template."""

from __future__ import annotations

from procrastinate._deferrer import JobDeferrer
from procrastinate._job import DEFAULT_PRIORITY, DEFAULT_QUEUE, DeleteJobCondition, Job
from procrastinate.core.channels import AbortJobRequested, JobInserted, Notification
from procrastinate.core.enums import Status

__all__ = [
    "DEFAULT_PRIORITY",
    "DEFAULT_QUEUE",
    "AbortJobRequested",
    "DeleteJobCondition",
    "Job",
    "JobDeferrer",
    "JobInserted",
    "Notification",
    "Status",
]
