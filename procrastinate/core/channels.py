"""The NOTIFY channels and what is sent on them. The triggers send, and workers listen; workers send what has finished,
and those listen who wait for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

ANY_QUEUE_CHANNEL = "procrastinate_any_queue_v1"
FINISHED_CHANNEL = "procrastinate_finished_v1"
"""Here those are told who wait for jobs to finish."""
LARGEST_ANNOUNCEMENT = 300
"""How many jobs one message may name: it has at most 8,000 bytes, and an id at most 19 digits."""
_QUEUE_CHANNEL_PREFIX = "procrastinate_queue_v1#"
_MAX_CHANNEL_BYTES = 63
"""NAMEDATALEN - 1: PostgreSQL refuses longer channel names (https://www.postgresql.org/docs/current/sql-notify.html)."""


class JobInserted(TypedDict):
    """Jobs are waiting; one of them is named. ``upcoming``: some have to be promoted first."""

    type: Literal["job_inserted"]
    job_id: int
    upcoming: NotRequired[bool]


class AbortJobRequested(TypedDict):
    """A running job is to stop."""

    type: Literal["abort_job_requested"]
    job_id: int


Notification: TypeAlias = JobInserted | AbortJobRequested
"""What a worker is told."""


def queue_channel(queue_name: str) -> str:
    """The channel of one queue. The trigger function ``procrastinate_queue_channel`` computes the same."""
    channel = _QUEUE_CHANNEL_PREFIX + queue_name
    if len(channel.encode()) <= _MAX_CHANNEL_BYTES:
        return channel
    return _QUEUE_CHANNEL_PREFIX + hashlib.md5(queue_name.encode(), usedforsecurity=False).hexdigest()


def channels_for(queues: Iterable[str] | None) -> list[str]:
    """The channels that a worker for these queues listens on; ``None`` for all queues."""
    if queues is None:
        return [ANY_QUEUE_CHANNEL]
    return [queue_channel(queue) for queue in queues]


def parse_finished(payload: str) -> list[int]:
    """The ids of the jobs that have finished, by what was sent on :data:`FINISHED_CHANNEL`; none if it is not ours."""
    message = _load(payload)
    job_ids = message.get("job_ids") if isinstance(message, dict) else None
    return [job_id for job_id in job_ids if isinstance(job_id, int)] if isinstance(job_ids, list) else []


def _load(payload: str) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return None


def parse_notification(payload: str) -> Notification | None:
    """The notification in a payload; ``None`` for one that is not ours."""
    message = _load(payload)
    if not isinstance(message, dict) or message.get("type") not in ("job_inserted", "abort_job_requested"):
        return None
    return message  # type: ignore[return-value]
