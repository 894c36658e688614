"""Release prefetched jobs: too many were fetched, the worker stops, or the event loop is blocked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable

from procrastinate.jobs import Job
from procrastinate.worker.fetch.prefetch import LONGEST_WAIT, Prefetch
from procrastinate.worker.fetch.release import Releaser
from procrastinate.worker.own_context import OwnContext


class EarlyRelease:
    """Releases jobs that have not started, at once or when one has waited too long for a slot.

    Parameters
    ----------
    context:
        The context of the worker. No context variable of a job reaches what runs here.

    Attributes
    ----------
    timer:
        The next look at the jobs that wait for a slot. ``None`` unless :meth:`watch` was called.
    """

    def __init__(self, prefetch: Prefetch, releaser: Releaser, context: OwnContext) -> None:
        self._prefetch = prefetch
        self._releaser = releaser
        self._context = context
        self._loop = asyncio.get_running_loop()
        self.timer: asyncio.TimerHandle | None = None

    @property
    def is_under_way(self) -> bool:
        """True while jobs are released, in the event loop or in another thread."""
        return self._releaser.is_under_way or self._prefetch.is_leaving

    @property
    def ids(self) -> set[int]:
        """The jobs that the event loop releases now. Callable from any thread."""
        return self._releaser.ids

    def release(self, jobs: Iterable[Job]) -> None:
        """Release fetched jobs that are not kept for a slot."""
        self._releaser.release(jobs)

    def release_waiting(self) -> None:
        """Release all prefetched jobs."""
        self._releaser.release(self._prefetch.take_all())

    def release_queues(self, queues: Collection[str]) -> None:
        """Release the prefetched jobs of these queues."""
        self._releaser.release(self._prefetch.take_of(queues))

    def watch(self) -> None:
        """Release the prefetched jobs if a running job takes longer than the previous ones."""
        self.timer = self._loop.call_later(LONGEST_WAIT, self._look)

    def _look(self) -> None:
        self.timer = None
        rest = LONGEST_WAIT - self._prefetch.longest_wait
        if rest <= 0:
            self.release_waiting()
        elif self._prefetch:
            self.timer = self._loop.call_later(rest, self._look)

    def close(self) -> None:
        """Look no more."""
        if self.timer is not None:
            self.timer.cancel()

    def end_in_thread(self, all_wait: bool) -> None:
        """Let the loop fetch again when it resumes. Called in another thread, which has released jobs.

        Parameters
        ----------
        all_wait:
            True if all jobs of the release certainly wait again.
        """
        with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has stopped
            self._loop.call_soon_threadsafe(self._end, all_wait, context=self._context.copy())

    def _end(self, all_wait: bool) -> None:
        self._prefetch.end_release()
        self._releaser.released_in_thread(all_wait)
