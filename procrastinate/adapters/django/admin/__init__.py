"""The queue in Django's admin."""

from __future__ import annotations

from procrastinate.adapters.django.admin.job_admin import ProcrastinateJobAdmin

__all__ = ["ProcrastinateJobAdmin"]
