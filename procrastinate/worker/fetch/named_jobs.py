"""What the fetch loop knows of a job that a notification names."""

from __future__ import annotations

from collections.abc import Iterable

from procrastinate.jobs import Job
from procrastinate.manager import JobManager


class NamedJobs:
    """Which jobs the last fetch has seen, and which job is to come because a notification named it.

    Attributes
    ----------
    to_come:
        A job that was notified to this worker, until the next fetch looks for it.
    """

    def __init__(self) -> None:
        self.to_come: int | None = None
        self._seen_last: frozenset[int | None] = frozenset()

    def was_seen(self, job_id: int | None) -> bool:
        """Return true if the last fetch that found jobs had this one, and left room: no other was ready then."""
        return job_id in self._seen_last

    def was_missed(self, awaited: int | None) -> bool:
        """Return true if the last fetch that found jobs left room and was without the job that was to come.

        Another session had its row for a moment, such as the promotion of another worker that parks jobs behind it. Or
        another worker has taken it.
        """
        return awaited is not None and not self.was_seen(awaited)

    def fetched(self, jobs: Iterable[Job], *, has_room: bool) -> None:
        """Note the jobs of a fetch, and whether it left room."""
        self._seen_last = frozenset(job.id for job in jobs) if has_room else frozenset()

    def forget(self) -> None:
        """Forget the jobs of the last fetch."""
        self._seen_last = frozenset()

    async def call_others(self, manager: JobManager) -> None:
        """Notify the other workers of a job that was notified to this one, which has no room for it."""
        job_id, self.to_come = self.to_come, None
        if job_id is not None:
            await manager.call_all_workers(job_id=job_id)
