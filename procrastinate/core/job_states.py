"""The states of a job as people see them, and the words for them."""

from __future__ import annotations

import enum

import sqlalchemy as sa

from procrastinate.core.enums import Status
from procrastinate.core.tables import (
    DOING,
    TODO,
    is_in_line,
    is_parked,
    is_ready,
    jobs,
    status_literal,
    waits_for_others,
)
from procrastinate.core.workflow_rows import SIGNAL_TASK


class JobState(enum.StrEnum):
    """State of a job. The status ``todo`` is five states, because a job waits for five reasons."""

    READY = "ready"
    """A worker may claim the job now, unless its queue is paused."""
    SCHEDULED = "scheduled"
    """The job waits for its time, or for a worker that examines its lock."""
    BLOCKED = "blocked"
    """The job is due, and waits behind the holder of its lock."""
    LIMITED = "limited"
    """The job is due, and waits for a slot of its limit."""
    WAITING_FOR_STEPS = "waiting_for_steps"
    """The job is a step of a workflow, and waits for the steps before it."""
    RUNNING = "running"
    """A worker holds the job."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABORTED = "aborted"

    @property
    def label(self) -> str:
        """The words for the state on a page."""
        return label_of(self.value)

    @property
    def is_waiting(self) -> bool:
        """True if no worker has claimed the job yet."""
        return self in WAITING

    @property
    def has_ended(self) -> bool:
        """True if the job will not run again by itself."""
        return self in ENDED


WAITING = (JobState.READY, JobState.SCHEDULED, JobState.BLOCKED, JobState.LIMITED, JobState.WAITING_FOR_STEPS)
"""The states of the status ``todo``. Whatever counts or changes waiting jobs takes all of them."""
ENDED: dict[JobState, Status] = {
    JobState.SUCCEEDED: Status.SUCCEEDED,
    JobState.FAILED: Status.FAILED,
    JobState.CANCELLED: Status.CANCELLED,
    JobState.ABORTED: Status.ABORTED,
}


def state_in(table: sa.FromClause = jobs) -> sa.ColumnElement[str]:
    """Return the :class:`JobState` of a row of the table, which is that of the jobs or an alias of it."""
    return sa.case(
        (table.c.status == DOING, JobState.RUNNING.value),
        (is_parked(table), JobState.BLOCKED.value),
        (is_in_line(table), JobState.LIMITED.value),
        (waits_for_others(table), JobState.WAITING_FOR_STEPS.value),
        (is_ready(table), JobState.READY.value),
        (table.c.status == TODO, JobState.SCHEDULED.value),
        # A row of 3.x, which nothing takes.
        (table.c.status == status_literal(Status.ABORTING), JobState.RUNNING.value),
        else_=sa.cast(table.c.status, sa.Text),
    )


STATE = state_in()
"""The :class:`JobState` of a row."""

WAITING_FOR_SIGNAL = "waiting_for_signal"
"""The word for a signal of a workflow that has not come. It waits for its timeout or, without one, without end."""


def word_of(state: JobState, task_name: str) -> str:
    """Return the one word by which all views call a job. It is that of the state, except for a signal."""
    return WAITING_FOR_SIGNAL if state.is_waiting and task_name == SIGNAL_TASK else state.value


def label_of(word: str) -> str:
    """Return a word as people read it."""
    return word.replace("_", " ")


def word_in(table: sa.FromClause = jobs) -> sa.ColumnElement[str]:
    """Return the word for a row of the table, as :func:`word_of`."""
    is_unsent = sa.and_(table.c.status == TODO, table.c.task_name == SIGNAL_TASK)
    return sa.case((is_unsent, WAITING_FOR_SIGNAL), else_=state_in(table))


WORD = word_in()
"""The word for a row."""
