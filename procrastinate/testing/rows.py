"""The rows of the tables in memory, and conditions on them."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any, NotRequired, TypedDict, cast

from procrastinate.core import GroupKind, Readiness, Rule, Status
from procrastinate.core.unique_keys import Until

TODO = Status.TODO.value
DOING = Status.DOING.value
NOT_ENDED = (TODO, DOING, Status.ABORTING.value)

LONG_AGO = datetime.datetime.min.replace(tzinfo=datetime.UTC)


class JobRow(TypedDict):
    """The public columns of a row of ``procrastinate_jobs``. ``args`` is the decoded JSON object."""

    id: int
    queue_name: str
    task_name: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    args: dict[str, Any]
    status: str
    scheduled_at: datetime.datetime | None
    attempts: int
    abort_requested: bool
    worker_id: int | None
    # Only members of workflows have these.
    workflow_id: NotRequired[int]
    step: NotRequired[str | None]
    # The text of a JSON object. Only jobs that are described have these.
    meta: NotRequired[str | None]
    trace_context: NotRequired[str | None]


@dataclasses.dataclass(slots=True, kw_only=True)
class GroupRow:
    """A row of ``procrastinate_workflows``."""

    root_id: int
    parent_id: int | None
    kind: GroupKind
    name: str
    if_failed: str
    created_at: datetime.datetime
    finished_at: datetime.datetime | None = None
    cancelled_at: datetime.datetime | None = None
    is_successful: bool = False
    lost: int = 0


@dataclasses.dataclass(slots=True, kw_only=True)
class Dependency:
    """A row of ``procrastinate_dependencies``."""

    parent_id: int | None
    group_id: int | None
    rule: Rule
    argument: str | None
    delay: float | None


@dataclasses.dataclass(slots=True, kw_only=True)
class UniqueRow:
    """A row of ``procrastinate_uniques``."""

    key: str
    job_id: int
    until: Until
    taken_at: datetime.datetime
    expires_at: datetime.datetime | None
    start_by: datetime.datetime | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoredReport:
    """A row of ``procrastinate_job_reports``."""

    at: datetime.datetime
    content: str


class EventRow(TypedDict):
    """A row of ``procrastinate_events``."""

    type: str
    at: datetime.datetime


@dataclasses.dataclass(slots=True)
class Progress:
    """The internal columns of ``procrastinate_jobs``."""

    readiness: Readiness = Readiness.UNDECIDED
    rescues: int = 0
    finished_at: datetime.datetime | None = None
    limit_name: str | None = None
    limit_key: str | None = None
    limit_weight: int | None = None


PROGRESS_COLUMNS = {field.name for field in dataclasses.fields(Progress)}

Condition = Callable[[JobRow], bool]


def in_order(row: JobRow) -> tuple[int, int]:
    """Return the key that sorts jobs into the order in which they should run."""
    return -row["priority"], row["id"]


def due_at(row: JobRow) -> datetime.datetime:
    """Return the due time of a waiting job: its schedule, or a time long ago."""
    return row["scheduled_at"] or LONG_AGO


def matching(**values: Any) -> Condition:
    """Return a condition on column values. ``None`` leaves a column out."""
    wanted = {name: value for name, value in values.items() if value is not None}
    return lambda row: all(cast(dict[str, Any], row)[name] == value for name, value in wanted.items())
