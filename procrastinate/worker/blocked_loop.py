"""What a worker does while a job blocks its event loop: other workers get the jobs that it has not started."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING

from procrastinate.logs import STACK
from procrastinate.tracebacks import describe_stack
from procrastinate.worker.slots import Slots

if TYPE_CHECKING:
    from procrastinate.worker.worker import Worker

_MOST_NAMED = 10
_MESSAGE = (
    "The event loop has been blocked for %.0f s, while %s runs. Timeouts and aborts of async tasks wait for it, as "
    "other jobs of this worker do. %d jobs that had not started were released. A task that blocks must be a sync one "
    "(def), or call asyncio.to_thread. It is here:"
)


class BlockedLoop:
    """Releases prefetched jobs and names the job that blocks the loop. Made in the loop's thread, used in another."""

    def __init__(self, slots: Slots, worker: Worker) -> None:
        self._slots = slots
        self._worker = worker
        self._loop_thread = threading.get_ident()

    def handle(self, seconds: float) -> None:
        """Release the jobs that wait in this worker, and warn. Raises nothing.

        Parameters
        ----------
        seconds:
            The time for which the loop has been blocked, about.
        """
        with contextlib.suppress(BaseException):  # a log handler that raises must not end the watch
            stack = self._stack()
            jobs = self._slots.running_in_thread()
            released = self._slots.give_back_waiting_in_thread()
            self._worker.logger.warning(
                _MESSAGE,
                seconds,
                ", ".join(job.call_string for job in jobs[:_MOST_NAMED]) or "no job",
                released,
                extra={
                    "action": "loop_blocked",
                    STACK: stack,
                    "worker": self._worker.log_context(),
                    "jobs": [job.id for job in jobs],
                    "seconds": seconds,
                    "released": released,
                },
            )

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)
        return "" if frame is None else describe_stack(frame)
