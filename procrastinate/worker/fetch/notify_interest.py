"""Says in the database whether the worker waits for jobs: writers notify only while one does."""

from __future__ import annotations

import asyncio

from procrastinate.manager import JobManager
from procrastinate.worker.backoff import Backoff
from procrastinate.worker.fetch.noticeboard import Noticeboard

BUSY_AFTER = 0.25
"""Seconds of work without a pause after which a worker needs no call. Less would have it write a row more often than it
spares others a notification."""
PAUSE = 0.02
"""Seconds without work that are a pause. A fetch that comes back empty between two jobs is none."""
_LONGEST_WAIT = 1.0


class NotifyInterest:
    """Tells writers when to call this worker, and looks by itself for what those have written who did not know.

    Parameters
    ----------
    board:
        Where it asks the fetch loop for a look.
    listens:
        Whether the worker hears when it is called.
    """

    def __init__(
        self,
        manager: JobManager,
        board: Noticeboard,
        queues: tuple[str, ...] | None,
        *,
        listens: bool,
    ) -> None:
        self._manager = manager
        self._board = board
        self._queues = queues
        self._listens = listens
        self._told: tuple[int, bool] | None = None
        self._busy_since: float | None = None
        self._last_work = 0.0
        self._had_room = True
        self._unaware_before: int | None = None
        self._backoff = Backoff(first=0.02, longest=_LONGEST_WAIT)
        self._next_look = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_made(self) -> bool:
        """Whether writers notify, as far as is known: they do, where a worker has said nothing."""
        return self._told != (self._board.worker_id, False)

    @property
    def is_heard(self) -> bool:
        """Whether the worker learns of every job that becomes ready, and need not look for one."""
        return self._listens and self.is_made

    @property
    def looks_by_itself(self) -> bool:
        """Whether the worker listens, and writers do not notify it."""
        return self._listens and not self.is_made

    def doubt(self) -> None:
        """Say it again, because the table may not have it: an answer was lost, or a server with its last writes."""
        self._told = None

    async def busy(self, *, has_room: bool) -> None:
        """Note that there is work, or no room for more. After a while of this without a pause, call no more."""
        now = _now()
        if self._busy_since is None or (self._had_room and now - self._last_work > PAUSE):
            self._busy_since = now
        self._last_work, self._had_room = now, has_room
        if not self.is_made:
            return
        rest = self._busy_since + BUSY_AFTER - now
        if not self._listens or rest <= 0:
            await self._stop_calling()
        elif not has_room:
            self._wake_in(rest)
        elif not self._is_settled:
            self._wake_in(PAUSE)

    async def idle(self) -> bool:
        """Call, because there is room and no job. Return whether to look once more before waiting to be called.

        A worker that has stopped calling goes on looking for a moment before it calls: more may be on its way.
        """
        if not self._listens:
            if self.is_made:
                await self._stop_calling()
            return False
        self.close()
        if not self._had_room:
            self._last_work, self._had_room = _now(), True
        if self._is_settled:
            return False
        if self._busy_since is not None and _now() - self._last_work < PAUSE:
            if self.is_made:
                self._wake_in(PAUSE)
            return False
        self._busy_since = None
        if self._unaware_before is None or self._told != (self._board.worker_id, True):
            return await self._call()
        return await self._look_after_unaware(self._unaware_before)

    @property
    def _is_settled(self) -> bool:
        """Whether the call is made, and every writer knows of it."""
        return self._told == (self._board.worker_id, True) and self._unaware_before is None

    async def leave(self) -> None:
        """Call no more, because the worker starts no more jobs, whatever it still does."""
        self.close()
        if self.is_heard:
            await self._stop_calling()

    async def _stop_calling(self) -> None:
        worker_id, self._told = self._board.worker_id, None
        await self._manager.stop_waiting(worker_id=worker_id)
        self._told = worker_id, False

    async def _call(self) -> bool:
        worker_id, self._told = self._board.worker_id, None
        waiting = await self._manager.start_waiting(worker_id=worker_id, queues=self._queues)
        if waiting is None:
            return False  # it will be registered again, and woken
        self._told = worker_id, True
        self._backoff.reset()
        self._unaware_before = None if waiting.is_settled else waiting.unaware_before
        self._next_look = _now() + self._backoff.next_wait()
        return True

    async def _look_after_unaware(self, unaware_before: int) -> bool:
        """Look now and then until the writers that looked before the call have ended. They do not notify."""
        now = _now()
        if now < self._next_look:
            self._wake_in(self._next_look - now)
            return False
        if await self._manager.have_ended_before(transaction=unaware_before):
            self._unaware_before = None
            return True
        pause = self._backoff.next_wait()
        self._next_look = now + pause
        self._wake_in(pause)
        return False

    def _wake_in(self, seconds: float) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._board.post_look)

    def close(self) -> None:
        """Stop the timer, so that it wakes the worker no more."""
        if self._timer is not None:
            self._timer.cancel()


def _now() -> float:
    return asyncio.get_running_loop().time()
