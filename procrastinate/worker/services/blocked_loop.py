"""What a worker does while a job blocks its event loop: release the jobs not started, and record those that ended."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING

from procrastinate._text.logs import STACK
from procrastinate._text.tracebacks import describe_stack
from procrastinate.worker.run.outcome_writer import OutcomeWriter
from procrastinate.worker.run.slots import Slots
from procrastinate.worker.services.thread_release import ThreadRelease

if TYPE_CHECKING:
    from procrastinate.worker.worker import Worker

_MOST_NAMED = 10
_MESSAGE = (
    "The event loop has been blocked for %.0f s, while %s runs. Timeouts and aborts of async tasks wait for it, as "
    "other jobs of this worker do. %d jobs that had not started were released, and the outcomes of %d jobs were "
    "recorded. A task that blocks must be a sync one (def), or call asyncio.to_thread. It is here:"
)


class BlockedLoop:
    """Does what cannot wait for the loop, and names the job that blocks it.

    Made in the loop's thread, and used in another.
    """

    def __init__(self, slots: Slots, release: ThreadRelease, outcome_writer: OutcomeWriter, worker: Worker) -> None:
        self._slots = slots
        self._release = release
        self._outcome_writer = outcome_writer
        self._worker = worker
        self._loop_thread = threading.get_ident()

    def handle(self, seconds: float) -> None:
        """Release the jobs that wait in this worker, record those that have ended, and warn. Raises nothing.

        Parameters
        ----------
        seconds:
            The time for which the loop has been blocked, about.
        """
        with contextlib.suppress(BaseException):  # a log handler that raises must not end the watch
            stack = self._stack()
            jobs = self._slots.running_in_thread()
            released = self._release.release()
            recorded = self._outcome_writer.write_in_thread()
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

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)
        return "" if frame is None else describe_stack(frame)
