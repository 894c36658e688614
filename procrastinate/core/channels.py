"""The NOTIFY channels and what is sent on them. The triggers send, and workers listen; workers send what has finished,
and those listen who wait for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict, TypeGuard

from procrastinate.core.defaults import LARGEST_ID

ANY_QUEUE_CHANNEL = "procrastinate_any_queue_v1"
FINISHED_CHANNEL = "procrastinate_finished_v1"
"""Here those are told who wait for jobs to finish."""
LARGEST_ANNOUNCEMENT = 300
"""How many jobs one message may name: it has at most 8,000 bytes, and an id at most 19 digits."""
LONGEST_NOTIFICATION = 500
"""Characters of the longest notification to a worker, which names 16 workers. A longer one is not even read: any role
may send many of them.
"""
_QUEUE_CHANNEL_PREFIX = "procrastinate_queue_v1#"
_MAX_CHANNEL_BYTES = 63
"""NAMEDATALEN - 1: PostgreSQL refuses longer channel names (https://www.postgresql.org/docs/current/sql-notify.html)."""


class JobInserted(TypedDict):
    """Jobs are waiting, and one of them is named.

    ``pauses``: a queue was paused or resumed, and there may be no job. A worker of an older release looks for one.
    ``upcoming``: some have to be promoted first. ``workers``: the workers that look at once, one for each job. Every
    worker looks if it is missing. ``waiting``: how many workers wait for jobs of this queue.
    """

    type: Literal["job_inserted"]
    job_id: int
    upcoming: NotRequired[bool]
    pauses: NotRequired[bool]
    workers: NotRequired[list[int]]
    waiting: NotRequired[int]


class AbortJobRequested(TypedDict):
    """A running job is to stop.

    ``stack``: it may go on, and its worker tells its stack. A worker of an older release looks for requests to abort.
    """

    type: Literal["abort_job_requested"]
    job_id: int
    stack: NotRequired[bool]


Notification: TypeAlias = JobInserted | AbortJobRequested
"""What a worker is told."""


def queue_channel(queue_name: str) -> str:
    """Return the channel of one queue. The trigger function ``procrastinate_queue_channel`` computes the same."""
    channel = _QUEUE_CHANNEL_PREFIX + queue_name
    if len(channel.encode()) <= _MAX_CHANNEL_BYTES:
        return channel
    return _QUEUE_CHANNEL_PREFIX + hashlib.md5(queue_name.encode(), usedforsecurity=False).hexdigest()


def channels_for(queues: Iterable[str] | None) -> list[str]:
    """Return the channels that a worker for these queues listens on; ``None`` for all queues."""
    if queues is None:
        return [ANY_QUEUE_CHANNEL]
    return [queue_channel(queue) for queue in queues]


def parse_finished(payload: str) -> list[int]:
    """Read the ids of the finished jobs, each once, from a payload of :data:`FINISHED_CHANNEL`.

    A payload of any other form gives no id.
    """
    message = _load(payload)
    job_ids = message.get("job_ids") if isinstance(message, dict) else None
    if not isinstance(job_ids, list):
        return []
    return list(dict.fromkeys(job_id for job_id in job_ids if _is_job_id(job_id)))


def parse_notification(payload: str) -> Notification | None:
    """Read a notification to a worker. Any payload of another form gives ``None``."""
    message = _load(payload) if len(payload) <= LONGEST_NOTIFICATION else None
    if not isinstance(message, dict) or not _is_job_id(message.get("job_id")):
        return None
    job_id: int = message["job_id"]
    if message.get("type") == "abort_job_requested":
        requested: AbortJobRequested = {"type": "abort_job_requested", "job_id": job_id}
        return {**requested, "stack": True} if message.get("stack") is True else requested
    if message.get("type") != "job_inserted":
        return None
    inserted: JobInserted = {"type": "job_inserted", "job_id": job_id}
    if "upcoming" in message:
        inserted["upcoming"] = message["upcoming"] is not False
    if message.get("pauses") is True:
        inserted["pauses"] = True
    workers, waiting = message.get("workers"), message.get("waiting")
    if isinstance(workers, list) and all(map(_is_id, workers)) and _is_id(waiting):
        inserted["workers"], inserted["waiting"] = workers, waiting
    return inserted


def _load(payload: str) -> Any:
    # Every role that can log in may send anything: deep nesting raises RecursionError, not ValueError.
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


def _is_id(value: object) -> TypeGuard[int]:
    """Return whether it may be an id. Those of workers may be negative."""
    return isinstance(value, int) and not isinstance(value, bool) and -LARGEST_ID <= value <= LARGEST_ID


def _is_job_id(value: object) -> TypeGuard[int]:
    return _is_id(value) and value > 0
