"""What a message of Celery's protocol 2 asks for, and why some stay messages."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from procrastinate.from_celery.stored_call import StoredCall

_CANVAS = ("callbacks", "errbacks", "chain", "chord")


class NotAJob(Exception):
    """The message cannot become a job. The text says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskMessage:
    """A call of a task, with when and how it is to run.

    Attributes
    ----------
    task_name:
        The name of the task, as in Celery.
    eta:
        When it may start: an aware datetime.
    """

    task_name: str
    call: StoredCall
    eta: datetime.datetime | None


def read_message(headers: Mapping[str, Any], body: Any) -> TaskMessage:
    """Read a message.

    Parameters
    ----------
    body:
        The decoded body.

    Raises
    ------
    NotAJob
        It is not a message of protocol 2, or it is a part of a canvas.
    """
    if not isinstance(headers, Mapping) or not all(isinstance(headers.get(name), str) for name in ("task", "id")):
        raise NotAJob("it has no header task: it is not of Celery's protocol 2")
    if not isinstance(body, list | tuple) or len(body) != 3:
        raise NotAJob("its body is not of Celery's protocol 2")
    args, kwargs, embedded = body
    retries = headers.get("retries") or 0
    _require("its args", args, list, tuple)
    _require("its kwargs", kwargs, Mapping)
    _require("the third part of its body", embedded or {}, Mapping)
    _require("its number of retries", retries, int)
    canvas = next((name for name in _CANVAS if (embedded or {}).get(name)), None)
    if canvas is not None:
        raise NotAJob(f"it belongs to a canvas ({canvas})")
    call = StoredCall(
        args=args,
        kwargs=kwargs,
        id=headers["id"],
        retries=retries,
        expires=_moment(headers.get("expires")),
    )
    return TaskMessage(task_name=headers["task"], call=call, eta=_moment(headers.get("eta")))


def _require(what: str, value: Any, *types: type) -> None:
    """Refuse a value that Celery does not write. It would be stored, and fail each run of its job."""
    if not isinstance(value, types):
        raise NotAJob(f"{what} is of type {type(value).__name__}")


def _moment(value: Any) -> datetime.datetime | None:
    """Read a time. Celery writes UTC if it writes no offset."""
    if value is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise NotAJob("a time in its headers is not of ISO 8601") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
