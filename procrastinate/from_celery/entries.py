"""The entries of Celery's schedule, as ``beat_schedule`` or the rows of django-celery-beat have them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any


class NotTranslated(Exception):
    """No cron expression says the same. The text says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A periodic task, as Celery has it.

    Attributes
    ----------
    name:
        Tells it from other schedules of the same task.
    schedule:
        A ``crontab`` or ``schedule`` of Celery, a timedelta, or a number of seconds.
    options:
        What its calls get: ``queue``, ``priority`` and ``expires`` are understood.
    """

    name: str
    task: str
    schedule: Any
    args: Iterable[Any] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_beat_schedule(beat_schedule: Mapping[str, Mapping[str, Any]]) -> list[Entry]:
    """Return the entries of the setting ``beat_schedule``."""
    names = {field.name for field in dataclasses.fields(Entry)} - {"name"}
    return [
        Entry(name=name, **{key: value for key, value in entry.items() if key in names and value is not None})
        for name, entry in beat_schedule.items()
    ]
