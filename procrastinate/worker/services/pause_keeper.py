"""Service that makes a worker obey the pauses of queues."""

from __future__ import annotations

import asyncio
import math
import random

from procrastinate.core import Pauses
from procrastinate.manager import JobManager
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.fetch.paused_queues import PausedQueues
from procrastinate.worker.run.slots import Slots
from procrastinate.worker.services.supervision import do_each
from procrastinate.worker.services.watch_duty import WatchDuty

_STEP = 1000
"""Number of jobs that one statement changes at most."""
_FIRST = 100
"""Number of jobs that each worker frees first when a pause ends."""
_HEAD_START = 0.1
"""Seconds from then until it frees the others. With 60,000 parked jobs and four workers on two cores, the first job
starts 0.15 s after the end of the pause. Without the head start it is 0.25 s, and 0.34 s if all are freed at once."""
_FREE_AGAIN = 1.0
"""Seconds after which each worker frees locks and slots once more. A statement that began before the pause may end
after it, and give them to the next job of the queue. A job that is released has them again."""
_FREE_ON = 120.0
"""Seconds from then to the next time in a long pause, on average. A transaction of a user may be as long."""


class PauseKeeper:
    """Follow the pauses: release the prefetched jobs of a paused queue, and let jobs go on when a pause ends.

    A heartbeat brings the pauses. A notification makes the service ask for them at once.

    Parameters
    ----------
    slots:
        Have the prefetched jobs.
    board:
        Where it posts that jobs may run again.
    duty:
        Says whether this worker is one of those that free locks and slots again while a queue is paused.
    """

    def __init__(
        self,
        manager: JobManager,
        board: Noticeboard,
        paused: PausedQueues,
        slots: Slots,
        duty: WatchDuty,
    ) -> None:
        self._manager = manager
        self._board = board
        self._paused = paused
        self._slots = slots
        self._duty = duty
        self._obeyed: frozenset[str] = frozenset()
        self._is_asked = False
        self._must_free = False
        self._unfreed: set[str] = set()
        self._frees_at = math.inf
        self._is_first_repeat = False

    def ask(self) -> None:
        """Ask the database which queues are paused."""
        self._is_asked = True
        self._paused.changed.set()

    def learn(self, pauses: Pauses) -> None:
        """Obey the pauses that a heartbeat has brought.

        If they are news, the service asks as well: a notification may have brought newer ones during the heartbeat.
        """
        known = self._paused.names
        self._paused.learn(pauses)
        self._is_asked |= self._paused.names != known
        self._paused.changed.set()

    async def run(self) -> None:
        """Follow the pauses until cancelled."""
        while True:
            self._paused.changed.clear()
            if self._is_asked:
                await self._read_pauses()
            self._note_changes()
            self._note_time()
            await do_each(self._free_locks, self._free_jobs)
            await self._until_changed()

    async def _read_pauses(self) -> None:
        """Ask the database. A notification during the question asks again: its pause may be newer than the answer."""
        self._is_asked = False
        try:
            self._paused.learn(await self._manager.get_pauses())
        except BaseException:
            self._is_asked = True
            raise

    def _note_changes(self) -> None:
        paused = self._paused.names
        begun = paused - self._obeyed
        self._obeyed = paused
        self._unfreed = (self._unfreed | begun) & paused
        self._must_free |= self._paused.take_ended()
        if begun:
            self._slots.release_queues(begun)
            self._frees_at = min(self._frees_at, _now() + _FREE_AGAIN)
            self._is_first_repeat = True

    def _note_time(self) -> None:
        """Free the locks and slots of all paused queues again if it is time. In a long pause, that is a duty of few."""
        if _now() < self._frees_at:
            return
        if self._duty.is_on or self._is_first_repeat:
            self._unfreed |= self._obeyed
        self._is_first_repeat = False
        self._frees_at = _now() + _FREE_ON * random.uniform(0.5, 1.5) if self._obeyed else math.inf

    async def _free_locks(self) -> None:
        """Take the locks and slots from the jobs of paused queues that have not started."""
        for queue in sorted(self._unfreed):
            while queue in self._paused.names and await self._manager.free_locks_of_paused(queue) >= _STEP:
                pass
            self._unfreed.discard(queue)

    async def _free_jobs(self) -> None:
        """Let the parked jobs go on whose pause has ended. At the start there are seldom any."""
        if not self._must_free:
            return
        if await self._manager.has_parked_jobs():
            await self._unpark()
        self._must_free = False
        self._board.post_resumption()

    async def _unpark(self) -> None:
        """Free some jobs first, and the others when the fetch loop has had time to start those."""
        freed = await self._manager.unpark_resumed_jobs(limit=_FIRST)
        locks_to = (await self._manager.sweep_parked_jobs()).reached
        if freed < _FIRST and locks_to is None:
            return
        self._board.post_resumption()
        await asyncio.sleep(_HEAD_START)
        while await self._manager.unpark_resumed_jobs() >= _STEP:
            pass
        while locks_to is not None:
            locks_to = (await self._manager.sweep_parked_jobs(start=locks_to)).reached

    async def _until_changed(self) -> None:
        """Wait for a change, until a pause ends by itself, or until it is time to free locks and slots again.

        A pause may have ended since the last look.
        """
        if self._paused.has_ended:
            return
        ends_in = self._paused.next_end_in
        pause = min(math.inf if ends_in is None else ends_in, self._frees_at - _now())
        try:
            async with asyncio.timeout(None if pause == math.inf else max(pause, 0)):
                await self._paused.changed.wait()
        except TimeoutError:
            return


def _now() -> float:
    return asyncio.get_running_loop().time()
