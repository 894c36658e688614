"""The slots of a worker that shares a number of slots with the workers of other databases."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from procrastinate.jobs import Job
from procrastinate.worker.run.shared_slots import SharedSlots
from procrastinate.worker.run.slots import Slots

if TYPE_CHECKING:
    from procrastinate.worker.worker import Worker


class SharingSlots(Slots):
    """Ask the shared slots before each start of a job, and leave them what this worker does not use.

    Parameters
    ----------
    shared:
        The slots of all workers of the process.
    kwargs:
        What :class:`~procrastinate.worker.run.slots.Slots` takes.
    """

    def __init__(self, worker: Worker, *, shared: SharedSlots, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._shared = shared
        shared.join(self)

    # What the shared slots ask

    @property
    def held(self) -> int:
        """The number of taken slots. A thread that goes on after its job's timeout keeps its slot."""
        return len(self._running) + self._threads.left

    @property
    def spare(self) -> int:
        """The number of slots that this worker may fill beyond those that it holds."""
        return super()._free()

    @property
    def has_kept(self) -> bool:
        """Whether fetched jobs wait for a slot."""
        return len(self._prefetch) > 0

    def use_room(self) -> None:
        """Use slots that another worker has left to this one."""
        self._worker.own_context.copy().run(self._use_room)

    # What this worker tells them

    def _free(self) -> int:
        return min(self.spare, self._shared.room(self))

    def begin_fetch(self) -> None:
        self._shared.begin_fetch(self)

    def end_fetch(self, *, wants_more: bool) -> None:
        self._shared.end_fetch(self, wants_more=wants_more and not self._stopping)

    def wait_for_room(self, *, is_wanted: bool) -> None:
        self._shared.wait_for_room(self, waits=is_wanted and not self._stopping)

    def _start(self, job: Job) -> None:
        self._shared.started(self)
        super()._start(job)

    def _fill(self, ended: Job | None = None) -> None:
        super()._fill(ended)
        self._shared.freed(self)

    def stop(self) -> None:
        super().stop()
        self.wait_for_room(is_wanted=False)

    def close(self) -> list[Future[Any]]:
        self._shared.leave(self)
        return super().close()
