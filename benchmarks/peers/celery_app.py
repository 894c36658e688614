"""The Celery app of its worker and of its driver, on a Redis that the driver has started."""

from __future__ import annotations

import os
from typing import Any

import celery  # type: ignore[import-untyped]

_SOCKET = os.environ["BENCHMARK_REDIS"]
app: Any = celery.Celery(
    "benchmark", broker=f"redis+socket://{_SOCKET}?virtual_host=0", backend=f"redis+socket://{_SOCKET}?virtual_host=1"
)
app.conf.update(worker_prefetch_multiplier=0, task_acks_late=False, worker_send_task_events=False)


@app.task  # type: ignore[untyped-decorator]
def noop() -> int:
    """Return 1, for the sum of a chord."""
    return 1


@app.task  # type: ignore[untyped-decorator]
def total(numbers: list[int]) -> int:
    """Return the number of parts that ran."""
    return sum(numbers)


@app.task  # type: ignore[untyped-decorator]
def next_of_chain(number: int) -> int:
    """Return the place of the step after this one."""
    return number + 1
