"""How much work there is, for an autoscaler such as KEDA."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from procrastinate.core.inspection import Queues
from procrastinate.metrics.families import seconds_ready


def scale_figures(queues: Queues, startable: Mapping[str, int], chosen: Collection[str]) -> dict[str, Any]:
    """Return the work for the workers of the chosen queues, as a JSON object. No chosen queue means all.

    ``jobs`` is the number to scale by. It includes running jobs, so that no worker is removed from under them, and due
    jobs that only a worker can make ready, so that they start the first worker. Jobs of paused queues count only while
    they run.
    """
    served = [one for one in queues.queues if not chosen or one.name in chosen]
    open_ = [one for one in served if one.pause is None]
    ready = sum(one.ready.number for one in open_)
    due = sum(startable.get(one.name, 0) for one in open_)
    running = sum(one.running.number for one in served)
    return {
        "jobs": ready + due + running,
        "ready": ready,
        "due": due,
        "running": running,
        "oldest_ready_seconds": max((seconds_ready(queues, one) for one in open_), default=0.0),
        "is_capped": queues.is_more or any(one.ready.is_more or one.running.is_more for one in served),
    }
