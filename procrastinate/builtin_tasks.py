"""Built-in tasks of every app."""

from __future__ import annotations

from procrastinate.blueprints import Blueprint
from procrastinate.core.defaults import BUILTIN_QUEUE
from procrastinate.exceptions import SignalTimeout
from procrastinate.job_context import JobContext

NAMESPACE = "builtin"
MIN_RETENTION_HOURS = 1
"""Default of ``App(min_retention_hours=...)``. Any role that may insert jobs can run the task with any arguments."""


async def remove_old_jobs(
    context: JobContext,
    *,
    max_hours: int,
    queue: str | None = None,
    remove_failed: bool | None = False,
    remove_cancelled: bool | None = False,
    remove_aborted: bool | None = False,
) -> None:
    """Delete succeeded jobs that finished more than ``max_hours`` hours ago. The ``remove_`` flags add other statuses.

    A job of this task never deletes jobs younger than ``App(min_retention_hours=...)``. The limit does not apply if
    another task calls this function.
    """
    await context.app.job_manager.delete_old_jobs(
        nb_hours=max(max_hours, context.app.min_retention_hours) if _is_own_job(context) else max_hours,
        queue=queue,
        include_failed=remove_failed,
        include_cancelled=remove_cancelled,
        include_aborted=remove_aborted,
    )


async def wait_for_signal(*, name: str) -> None:
    """Fail. A signal of a workflow is a job of this task, and its run means that the signal did not come in time."""
    raise SignalTimeout(f"Signal {name!r} did not come in time")


def _is_own_job(context: JobContext) -> bool:
    return context.job.task_name.endswith(f"{__name__}.{remove_old_jobs.__name__}")


def make_blueprint() -> Blueprint:
    """Return a new blueprint with the built-in tasks. Apps cannot share tasks, so each app needs its own."""
    blueprint = Blueprint()
    blueprint.task(pass_context=True, queue=BUILTIN_QUEUE)(remove_old_jobs)
    blueprint.task(queue=BUILTIN_QUEUE)(wait_for_signal)
    return blueprint
