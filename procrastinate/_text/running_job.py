"""The job that the current code runs for, for log records.

A context variable holds it. It follows the job into its thread, its coroutines and the asyncio tasks that it creates.
"""

from __future__ import annotations

import contextvars
import sys
from typing import Any, NamedTuple


class RunningJob(NamedTuple):
    """What a log record says of its job. It contains no arguments. ``meta`` is what was deferred with the job.

    Each run makes one. A frozen dataclass takes twice as long.
    """

    job_id: int | None
    task: str
    queue: str
    attempt: int
    worker_name: str | None
    meta: dict[str, Any] | None = None
    app: Any = None
    """The app whose worker runs the job. Log records do not show it."""


running_job: contextvars.ContextVar[RunningJob | None] = contextvars.ContextVar(
    "procrastinate_running_job", default=None
)

JOB_FIELDS = tuple(name for name in RunningJob._fields if name != "app")
TRACE_FIELDS = ("trace_id", "span_id")


def read_job_fields() -> dict[str, Any]:
    """Return the fields of the running job. They are ``None`` outside a job."""
    job = running_job.get()
    return {name: getattr(job, name, None) for name in JOB_FIELDS}


def read_trace_fields() -> dict[str, Any]:
    """Return the ids of OpenTelemetry's current span in hexadecimal. They are ``None`` without a span.

    This imports nothing: if the program does not use OpenTelemetry, there is no span.
    """
    trace = sys.modules.get("opentelemetry.trace")
    context = None if trace is None else trace.get_current_span().get_span_context()
    if context is None or not context.is_valid:
        return dict.fromkeys(TRACE_FIELDS)
    return {"trace_id": format(context.trace_id, "032x"), "span_id": format(context.span_id, "016x")}
