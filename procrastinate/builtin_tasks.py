"""Tasks that every app has."""

from __future__ import annotations

from procrastinate.blueprints import Blueprint
from procrastinate.job_context import JobContext

BUILTIN_QUEUE = "builtin"
NAMESPACE = "builtin"
MIN_RETENTION_HOURS = 1
"""By default. Each role that may insert a job can have a worker run the task, with any arguments."""


async def remove_old_jobs(
    context: JobContext,
    *,
    max_hours: int,
    queue: str | None = None,
    remove_failed: bool | None = False,
    remove_cancelled: bool | None = False,
    remove_aborted: bool | None = False,
) -> None:
    """Delete jobs that ended more than ``max_hours`` hours ago: the successful ones, and the others if asked.

    A job of this task keeps what is younger than ``App(min_retention_hours=...)``. A task of the program that calls
    this function is not bound by it.
    """
    await context.app.job_manager.delete_old_jobs(
        nb_hours=max(max_hours, context.app.min_retention_hours) if _is_own_job(context) else max_hours,
        queue=queue,
        include_failed=remove_failed,
        include_cancelled=remove_cancelled,
        include_aborted=remove_aborted,
    )


def _is_own_job(context: JobContext) -> bool:
    return context.job.task_name.endswith(f"{__name__}.{remove_old_jobs.__name__}")


def make_blueprint() -> Blueprint:
    """The built-in tasks, anew for each app: an app's tasks belong to it alone."""
    blueprint = Blueprint()
    blueprint.task(pass_context=True, queue=BUILTIN_QUEUE)(remove_old_jobs)
    return blueprint
