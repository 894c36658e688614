"""Reports of running jobs, kept in memory until the worker writes them."""

from __future__ import annotations

import functools
from collections.abc import Callable

from procrastinate._fork_locks import fork_lock
from procrastinate._text.logs import Seldom, get_logger
from procrastinate.core import NewReport, ReportKind
from procrastinate.jobs import Job

_unmade = Seldom(get_logger(__name__), "%d reports of jobs could not be made. The last one: %s", "reports_unmade")

MakeContent = Callable[[], str]
_Key = tuple[int, int, ReportKind]


class RunReports:
    """The newest report of each kind of each run. Tasks put them in from any thread."""

    def __init__(self) -> None:
        # Reentrant, because the garbage collector may run code that logs, and a log is a report.
        self._mutex = fork_lock()
        self._waiting: dict[_Key, MakeContent] = {}
        self.on_first: Callable[[], None] = lambda: None
        """Called in the thread of a task when a report comes and none waits."""

    def put(self, job: Job, kind: ReportKind, make_content: MakeContent) -> None:
        """Keep a report in place of the last one of its kind.

        Parameters
        ----------
        make_content:
            Returns the text of a JSON object. It is called only if the report is written.
        """
        if job.id is None:
            return
        with self._mutex:
            is_first = not self._waiting
            self._waiting[job.id, job.attempts + 1, kind] = make_content
        if is_first:
            self.on_first()

    def take(self) -> list[NewReport]:
        """Return the reports since the last call."""
        with self._mutex:
            taken, self._waiting = self._waiting, {}
        made = (_make(*key, make_content) for key, make_content in taken.items())
        return [report for report in made if report is not None]

    def put_back(self, reports: list[NewReport]) -> None:
        """Keep reports that could not be written, unless newer ones have come."""
        with self._mutex:
            for report in reports:
                key = report.job_id, report.attempt, report.kind
                self._waiting.setdefault(key, functools.partial(str, report.content))


def _make(job_id: int, attempt: int, kind: ReportKind, make_content: MakeContent) -> NewReport | None:
    """Return a report, or ``None`` if code of the job that it asks raises: the reports of other jobs go on."""
    try:
        content = make_content()
    except BaseException as error:
        _unmade.note(f"{kind.value} of job {job_id}: {type(error).__qualname__}")
        return None
    return NewReport(job_id=job_id, attempt=attempt, kind=kind, content=content)
