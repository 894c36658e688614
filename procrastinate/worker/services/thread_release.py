"""Releases the jobs of a worker that have not started, from a thread, while the event loop is blocked."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from procrastinate import core, exceptions
from procrastinate.manager import JobManager
from procrastinate.worker.fetch.open_fetch import OpenFetch
from procrastinate.worker.fetch.release import Releaser
from procrastinate.worker.run.outcome_writer import OutcomeWriter
from procrastinate.worker.run.slots import Slots


class ThreadRelease:
    """Releases jobs that were prefetched, jobs in slots to which the loop has not come, and jobs of an unread answer.

    Parameters
    ----------
    open_fetch:
        Returns the fetch whose answer the event loop has not read; ``None`` if there is none.
    """

    def __init__(
        self,
        slots: Slots,
        outcome_writer: OutcomeWriter,
        releaser: Releaser,
        manager: JobManager,
        open_fetch: Callable[[], OpenFetch | None],
        logger: logging.Logger,
    ) -> None:
        self._slots = slots
        self._outcome_writer = outcome_writer
        self._releaser = releaser
        self._manager = manager
        self._open_fetch = open_fetch
        self._logger = logger

    def release(self) -> int:
        """Release the jobs of which no line has run, and return their number.

        The loop may go on at any time. It starts none of these jobs, and fetches none until it has heard of the end.
        """
        waiting = self._slots.begin_release_in_thread()
        all_wait, unread = False, 0
        try:
            all_wait = self._releaser.release_in_thread(waiting)
            fetch = self._open_fetch()
            if fetch is not None and fetch.make_void() and (jobs := self._take_over(fetch)):
                unread = len(jobs)
                all_wait = self._releaser.release_now(fetch.worker_id, jobs) and all_wait
        finally:
            self._slots.end_release_in_thread(all_wait)
        return len(waiting) + unread

    def _take_over(self, fetch: OpenFetch) -> list[core.FetchedJob]:
        """Return the jobs of the void fetch. If the server has not executed it yet, there are none, and the loop gives
        them back later.

        No other fetch is under way and none begins, so each running job of this worker that it does not know is one of
        these. What it knows is read before the list, and in the order in which a job passes on.
        """
        known = self._slots.held_ids
        known |= self._outcome_writer.unrecorded_ids
        try:
            jobs = self._manager.list_unknown_jobs_in_thread(worker_id=fetch.worker_id, known_ids=known)
        except exceptions.ConnectorException as error:
            self._log_failure(error)
            return []
        ids = [job.id for job in jobs]
        self._slots.extend_release_in_thread(ids)
        return jobs if fetch.take_over(ids) else []

    def _log_failure(self, error: Exception) -> None:
        message = "Jobs of an answer that waits for the event loop cannot be listed: %s"
        with contextlib.suppress(BaseException):  # a log handler that raises must not cut this short
            self._logger.warning(message, error, extra={"action": "list_unknown_jobs_error"})
