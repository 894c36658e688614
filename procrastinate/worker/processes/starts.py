"""Counts the starts of worker processes, to tell when another start is pointless."""

from __future__ import annotations

from procrastinate.worker.processes.worker_process import End

FAILED_STARTS = 5
"""Failed starts in a row after which the supervisor gives up, even if workers could start before."""


class Starts:
    """The starts of all worker processes of a supervisor.

    Attributes
    ----------
    failed:
        The number of failed starts in a row.
    """

    def __init__(self) -> None:
        self.failed = 0
        self._any_has_succeeded = False

    def count(self, end: End, *, something_runs: bool) -> None:
        """Count the start of a process that has ended. ``something_runs`` says whether another process runs."""
        if end.has_started or something_runs:
            self._any_has_succeeded = True
        if end.has_started:
            self.failed = 0
        elif not end.database_was_away:
            self.failed += 1

    def is_hopeless(self, end: End, *, something_runs: bool) -> bool:
        """Return True if another start is pointless after this end.

        A database outage passes, but it still ends the first start, as it ends a single worker. While other worker
        processes run, the supervisor keeps trying.
        """
        if end.has_started:
            return False
        if not self._any_has_succeeded and end.code >= 0:
            return True
        return self.failed >= FAILED_STARTS and not something_runs
