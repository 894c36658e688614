"""What a statement has changed in a row in memory, and what the database's triggers do about it."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, cast

from procrastinate.core import EventType, Readiness, Status
from procrastinate.testing.limit_rows import LeftSlot
from procrastinate.testing.rows import DOING, NOT_ENDED, TODO, JobRow, Progress, due_at


@dataclasses.dataclass(slots=True)
class RowChange:
    """A row before and after a statement."""

    was: JobRow
    was_progress: Progress
    row: JobRow
    progress: Progress

    @property
    def is_moved(self) -> bool:
        return self.row["status"] != self.was["status"]

    @property
    def is_rescheduled(self) -> bool:
        return self.row["scheduled_at"] != self.was["scheduled_at"]

    @property
    def is_abort_requested(self) -> bool:
        return self.row["abort_requested"] and not self.was["abort_requested"]

    @property
    def is_stale(self) -> bool:
        """True if the readiness was decided for a different due time or lock."""
        readiness = self.progress.readiness
        is_decided = readiness != Readiness.UNDECIDED and readiness == self.was_progress.readiness
        is_waiting = self.row["status"] == TODO and self.was["status"] == TODO
        return is_waiting and is_decided and (self.is_rescheduled or self.row["lock"] != self.was["lock"])

    @property
    def is_ended_member(self) -> bool:
        return "workflow_id" in self.row and self.was["status"] in NOT_ENDED and self.row["status"] not in NOT_ENDED

    @property
    def was_holder(self) -> bool:
        """True if the job ran or could be fetched."""
        was_promoted = self.was["status"] == TODO and self.was_progress.readiness == Readiness.PROMOTED
        return self.was["status"] == DOING or was_promoted

    def waits_again(self, now: datetime.datetime) -> bool:
        """Return true if the job waits as it did before its run. Those behind it in its lock stay where they are."""
        waits = self.row["status"] == TODO and self.progress.readiness in (Readiness.UNDECIDED, Readiness.PROMOTED)
        has_lock = self.progress.limit_name is None and self.row["lock"] == self.was["lock"]
        is_due = not self.is_rescheduled and due_at(self.row) <= now
        return self.was["status"] == DOING and waits and has_lock and is_due

    @property
    def is_start(self) -> bool:
        """True if a worker claims the job."""
        return self.was["status"] == TODO and self.row["status"] == DOING

    @property
    def is_returned(self) -> bool:
        """True if a worker gives the job back, which may start again at once."""
        is_promoted = self.row["status"] == TODO and self.progress.readiness == Readiness.PROMOTED
        return self.was["status"] == DOING and is_promoted

    @property
    def left_slot(self) -> LeftSlot | None:
        """What the job has left if it had a slot and has it no more."""
        is_promoted = self.row["status"] == TODO and self.progress.readiness == Readiness.PROMOTED
        was = self.was_progress
        if was.limit_name is None or not self.was_holder or self.row["status"] == DOING or is_promoted:
            return None
        return left_slot(self.row, was)

    @property
    def is_noteworthy(self) -> bool:
        columns = ("status", "scheduled_at", "lock", "queue_name", "abort_requested")
        return self.progress.readiness != self.was_progress.readiness or any(
            cast(dict[str, Any], self.row)[name] != cast(dict[str, Any], self.was)[name] for name in columns
        )

    @property
    def event_type(self) -> EventType | None:
        status = self.row["status"]
        if status == DOING:
            return EventType.STARTED
        if status == TODO:
            return EventType.DEFERRED_FOR_RETRY if self.was["status"] == DOING else EventType.RETRIED
        return None if status == Status.ABORTING.value else EventType(status)

    @property
    def released_lock(self) -> str | None:
        """The lock that this job may have held and no longer holds. A rescheduled job may have lost its turn."""
        status, before = self.row["status"], self.was["status"]
        was_in_front = before == DOING or (before == TODO and self.was_progress.readiness != Readiness.PARKED)
        is_gone = (
            self.row["lock"] != self.was["lock"]
            or status not in (TODO, DOING)
            or (status == TODO and before == DOING)
            or self.is_rescheduled
        )
        return self.was["lock"] if was_in_front and is_gone else None


def left_slot(row: JobRow, progress: Progress) -> LeftSlot:
    """Return the slots that a job with a limit leaves."""
    name, key, weight = progress.limit_name or "", progress.limit_key or "", progress.limit_weight or 1
    return LeftSlot(row["id"], row["queue_name"], name, key, weight)
