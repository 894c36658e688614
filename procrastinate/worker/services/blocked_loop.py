"""Release unstarted jobs, record ended ones, and keep the stack while a job blocks the worker's event loop."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING

from procrastinate._text.logs import STACK
from procrastinate._text.tracebacks import describe_stack
from procrastinate.core import NewReport, ReportKind
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.worker.run.live_stack import dump_stack
from procrastinate.worker.run.outcome_writer import OutcomeWriter
from procrastinate.worker.run.slots import Slots
from procrastinate.worker.services.thread_release import ThreadRelease

if TYPE_CHECKING:
    from procrastinate.worker.worker import Worker

_MOST_NAMED = 10
_MESSAGE = (
    "The event loop has been blocked for %.0f s while %s runs. Timeouts and aborts of async tasks and the other jobs "
    "of this worker wait for it. The worker released %d unstarted jobs and recorded the outcomes of %d jobs. "
    "A blocking task must be a sync function (def) or call asyncio.to_thread. The loop is here:"
)


class BlockedLoop:
    """Do the work that cannot wait for the loop, and name the job that blocks it.

    Create it in the loop's thread and use it in another.
    """

    def __init__(
        self,
        slots: Slots,
        release: ThreadRelease,
        outcome_writer: OutcomeWriter,
        worker: Worker,
        manager: JobManager,
    ) -> None:
        self._slots = slots
        self._release = release
        self._outcome_writer = outcome_writer
        self._worker = worker
        self._manager = manager
        self._loop_thread = threading.get_ident()

    def handle(self, seconds: float) -> None:
        """Release the waiting jobs of this worker, record the ended ones, log a warning and keep the stack.

        Raises nothing.

        Parameters
        ----------
        seconds:
            Approximate time for which the loop has been blocked.
        """
        with contextlib.suppress(BaseException):  # a failing log handler must not end the watch
            stack = self._stack()
            blocking = self._slots.current_in_thread()
            jobs = self._slots.running_in_thread() if blocking is None else [blocking]
            released = self._release.release()
            recorded = self._outcome_writer.write_in_thread()
            with contextlib.suppress(Exception):  # a database that is away must not keep the warning from the log
                self._keep(stack, blocking)
            self._worker.logger.warning(
                _MESSAGE,
                seconds,
                ", ".join(job.call_string for job in jobs[:_MOST_NAMED]) or "no job",
                released,
                recorded,
                extra={
                    "action": "loop_blocked",
                    STACK: stack,
                    "worker": self._worker.log_context(),
                    "jobs": [job.id for job in jobs],
                    "seconds": seconds,
                    "released": released,
                    "recorded": recorded,
                },
            )

    def _keep(self, stack: str, job: Job | None) -> None:
        """Store the stack for the job that blocks the loop, because the loop hears no request for it."""
        worker_id = self._worker.worker_id
        if job is None or job.id is None or worker_id is None:
            return
        content = dump_stack(stack)
        report = NewReport(job_id=job.id, attempt=job.attempts + 1, kind=ReportKind.STACK, content=content)
        self._manager.write_reports_in_thread([report], worker_id=worker_id)

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)
        return "" if frame is None else describe_stack(frame)
