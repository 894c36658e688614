"""Release a worker's unstarted jobs from a thread while the event loop is blocked."""

from __future__ import annotations

import contextlib
import logging

from procrastinate import core, exceptions
from procrastinate.manager import JobManager
from procrastinate.worker.fetch.fetcher import Fetcher
from procrastinate.worker.fetch.open_fetch import OpenFetch
from procrastinate.worker.fetch.release import Releaser
from procrastinate.worker.run.outcome_writer import OutcomeWriter
from procrastinate.worker.run.slots import Slots


class ThreadRelease:
    """Release prefetched jobs, unstarted jobs in slots, and jobs of a fetch whose answer the loop has not read.

    Parameters
    ----------
    fetcher:
        Has the fetch with an unread answer, if there is one.
    """

    def __init__(
        self,
        slots: Slots,
        outcome_writer: OutcomeWriter,
        releaser: Releaser,
        manager: JobManager,
        fetcher: Fetcher,
        logger: logging.Logger,
    ) -> None:
        self._slots = slots
        self._outcome_writer = outcome_writer
        self._releaser = releaser
        self._manager = manager
        self._fetcher = fetcher
        self._logger = logger

    def release(self) -> int:
        """Release the unstarted jobs and return their number.

        The loop may resume at any time. It starts none of these jobs and fetches none until it learns of the end of the
        release.
        """
        waiting = self._slots.begin_release_in_thread()
        all_wait, unread = False, 0
        try:
            all_wait = self._releaser.release_in_thread(waiting)
            fetch = self._fetcher.open_fetch
            if fetch is not None and fetch.make_void() and (jobs := self._take_over(fetch)):
                unread = len(jobs)
                all_wait = self._releaser.release_now(fetch.worker_id, jobs) and all_wait
        finally:
            self._slots.end_release_in_thread(all_wait)
        return len(waiting) + unread

    def _take_over(self, fetch: OpenFetch) -> list[core.FetchedJob]:
        """Return the jobs of the void fetch, or none if the server has not run the fetch yet.

        In the latter case the loop releases the jobs later. No other fetch is open and none begins, so each of this
        worker's running jobs that it does not know belongs to this fetch. The known ids are read before the list, and
        in the order in which a job moves through the sets.
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
        message = "Cannot list the jobs of a fetch with an unread answer: %s"
        with contextlib.suppress(BaseException):  # a failing log handler must not cut this short
            self._logger.warning(message, error, extra={"action": "list_unknown_jobs_error"})
