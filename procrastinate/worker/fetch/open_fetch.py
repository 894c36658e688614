"""A fetch whose answer the event loop has not read, and the decision who gets its jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class OpenFetch:
    """One fetch. The event loop gets its jobs, unless another thread makes the answer void before the loop reads it.

    The jobs of a void answer never start. The thread releases those that it takes over, and the loop the rest. A mutex
    decides, so the loop may go on at any time.

    Make it before you look for room. The thread first takes all room and then makes the fetch void, so a fetch either
    is void or finds no room.

    Parameters
    ----------
    worker_id:
        The worker id that the jobs are fetched for.
    """

    def __init__(self, worker_id: int) -> None:
        self.worker_id = worker_id
        self._mutex = threading.Lock()
        self._is_void = False
        self._is_read = False
        self._taken_over: set[int] = set()

    def make_void(self) -> bool:
        """Make the answer void, in another thread. Return False if the event loop has read it."""
        with self._mutex:
            self._is_void = self._is_void or not self._is_read
            return not self._is_read

    def take_over(self, job_ids: Iterable[int]) -> bool:
        """Take jobs of a void answer, in another thread. Return False if the event loop has read it and has them."""
        with self._mutex:
            if not self._is_read:
                self._taken_over.update(job_ids)
            return not self._is_read

    def read(self) -> frozenset[int] | None:
        """Note that the event loop has the answer, or knows that none comes.

        Returns
        -------
        ``None`` if the answer is valid. Otherwise the ids of the jobs that the other thread has taken over.
        """
        with self._mutex:
            self._is_read = True
            return frozenset(self._taken_over) if self._is_void else None
