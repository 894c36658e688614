"""Frozen input and output values of the operations on workflows."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Mapping

from procrastinate.core.enums import Status
from procrastinate.core.rows import NewJob


class Rule(enum.IntEnum):
    """What a job needs of the job or the group that it waits for."""

    SUCCESS = 0
    """It succeeded. Otherwise the job is cancelled, or held if the workflow says so."""
    END = 1
    """It ended, whatever came of it."""
    ON_SUCCESS = 2
    """It succeeded. Otherwise the job is not needed and is cancelled."""
    ON_FAILURE = 3
    """It did not succeed, and the workflow was not cancelled. Otherwise the job is not needed and is cancelled."""


_CALLBACKS: dict[int, str] = {Rule.ON_SUCCESS.value: "on_success", Rule.ON_FAILURE.value: "on_failure"}


def callback_of(rule: int) -> str:
    """Return the kind of a callback, by what it needs of the group of all steps.

    A rule that only a later release knows is shown as one that needs no success.
    """
    return _CALLBACKS.get(rule, "on_end")


SIGNAL_TASK = "builtin:procrastinate.builtin_tasks.wait_for_signal"
"""The task of a signal's job. Its run means that the signal did not come in time."""


class WorkflowState(enum.StrEnum):
    """State of a workflow. Callbacks do not change it."""

    RUNNING = "running"
    """Some steps have not ended."""
    HELD = "held"
    """Nothing can run before a step that failed is retried by hand, or the workflow is cancelled."""
    SUCCEEDED = "succeeded"
    """All steps have succeeded."""
    FAILED = "failed"
    """All steps have ended, and some did not succeed."""
    CANCELLED = "cancelled"
    """The workflow was cancelled, and all steps have ended."""


class GroupKind(enum.StrEnum):
    """The kind of a row of ``procrastinate_workflows``."""

    WORKFLOW = "workflow"
    """The workflow itself."""
    STEPS = "steps"
    """All steps of a workflow that has callbacks. The callbacks are members of the workflow itself."""
    GROUP = "group"
    """A group that the program has named."""
    EXPANSION = "expansion"
    """A step that may add steps, with the steps that it adds."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NewGroup:
    """A group to store. ``parent`` is the position of another new group."""

    kind: GroupKind
    name: str
    parent: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NewStep:
    """A job to store as a member of the group at this position.

    ``waits`` is true if it waits for others. ``delay`` postpones the start of a step that waits for nothing, in
    seconds.
    """

    job: NewJob
    step: str
    group: int
    waits: bool = False
    delay: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NewDependency:
    """The job at the position ``step`` waits for one job or one group.

    One of the four is given: the position of a new step or a new group, or the id of a stored job or group. None is
    given for a signal that waits for nothing else.
    ``argument`` is the place that the parent's result is for, as the text of a JSON array. ``delay`` is the time in
    seconds from the parent's end to the start, and infinite for a signal without a timeout.
    """

    step: int
    rule: Rule
    parent_step: int | None = None
    parent_group: int | None = None
    parent_id: int | None = None
    parent_workflow_id: int | None = None
    argument: str | None = None
    delay: float | None = None

    @property
    def waits_for_nothing(self) -> bool:
        """True for a signal that nothing comes before: only its time lets it go."""
        parents = (self.parent_step, self.parent_group, self.parent_id, self.parent_workflow_id)
        return all(parent is None for parent in parents)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NewGraph:
    """Groups, steps and dependencies to store. The first group is the workflow, or the group that they are added to."""

    if_failed: str
    groups: tuple[NewGroup, ...]
    steps: tuple[NewStep, ...]
    dependencies: tuple[NewDependency, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredGraph:
    """The ids of a graph that was stored, in the order of its groups and steps."""

    group_ids: tuple[int, ...]
    job_ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """What a look at the arrivals has changed.

    ``released`` steps may run, ``cancelled`` ones may not, and ``finished`` groups have ended. ``left`` is true if
    something has to be looked at again because another session has its row locked. ``refused`` has the jobs and groups
    that the database refuses to change, with its messages. They are looked at again as well, and no worker that ends
    without jobs waits for them.
    """

    taken: int = 0
    released: int = 0
    cancelled: int = 0
    finished: int = 0
    left: bool = False
    refused: Mapping[int, str] = dataclasses.field(default_factory=dict)

    @property
    def gets_on(self) -> bool:
        """True if there may be more to look at now."""
        if self.released or self.cancelled or self.finished:
            return True
        return self.taken > 0 and not self.left and not self.refused


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Number of members of a group by what became of them, in the words that all views use of jobs.

    A lost member was deleted before its end.
    """

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    aborted: int = 0
    lost: int = 0
    waiting_for_steps: int = 0
    waiting_for_signal: int = 0
    scheduled: int = 0
    blocked: int = 0
    limited: int = 0
    ready: int = 0
    running: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of both together."""
        names = [field.name for field in dataclasses.fields(self)]
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def total(self) -> int:
        """The number of all members."""
        return sum(getattr(self, field.name) for field in dataclasses.fields(self))

    @property
    def open(self) -> int:
        """The number of members that have not ended."""
        return self.total - self.succeeded - self.failed - self.cancelled - self.aborted - self.lost


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredWorkflow:
    """A row of ``procrastinate_workflows`` that is a workflow, and the counts of its steps without the callbacks.

    ``goes_on`` is true if a step runs, or will run without the end of another one and without a signal.
    """

    id: int
    name: str
    if_failed: str
    created_at: datetime.datetime | None
    finished_at: datetime.datetime | None
    cancelled_at: datetime.datetime | None
    steps_ended: bool
    goes_on: bool
    counts: Counts


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredStep:
    """A job of a workflow. ``group_id`` is the group that it is a member of, and ``word`` its field of the counts."""

    job_id: int
    group_id: int
    step: str
    task_name: str
    queue_name: str
    status: Status
    word: str
    attempts: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredGroup:
    """A group of a workflow, or the workflow itself. ``counts`` is of its own members, without those of its parts."""

    id: int
    parent_id: int | None
    kind: GroupKind
    name: str
    is_finished: bool
    counts: Counts


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredDependency:
    """The job ``job_id`` waits for the job ``parent_id`` or the group ``parent_group_id``."""

    job_id: int
    parent_id: int | None
    parent_group_id: int | None
    rule: Rule
