"""Keeps the worker's slots filled: wakes, promotes, fetches, starts, sleeps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from procrastinate.core import Rank
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.worker.backoff import Backoff
from procrastinate.worker.fetch.fetch_cursor import FetchCursor
from procrastinate.worker.fetch.notify_interest import NotifyInterest
from procrastinate.worker.fetch.open_fetch import OpenFetch
from procrastinate.worker.fetch.pace import Pace
from procrastinate.worker.fetch.promotion_turn import Turn
from procrastinate.worker.processes.exits import ends_task

_SECOND_LOOK = 0.1
"""Seconds. A fetch passes over rows that somebody holds for a moment: after news, one that came back short is
repeated once."""
_LONGEST_TIMER = 3600.0
_STOCK_INTERVAL = 30.0
_FIRST_STOCK_INTERVAL = 0.1
"""Seconds between two looks at what the database says is this worker's; and after the first where there is doubt: a
row that somebody holds just then is passed over."""
_LONGEST_TURN = 0.5
"""Seconds until the next try where another worker promotes. Its turn takes milliseconds."""
_UNCALLED_FETCH = 0.005
_UNCALLED_PROMOTION = 0.1
"""Seconds until the next fetch, and the next promotion, of a worker that nobody calls, for it has enough to do."""


class FetchLoop:
    """Keeps the worker's slots filled.

    It is woken when a job ends, when the database notifies, when the next waiting job falls due, and at each
    polling interval, whatever else is missed. While it has enough to do, it lets the others know that they need not
    notify, and looks by itself.

    Parameters
    ----------
    room:
        How many jobs can be taken now.
    take:
        Takes the jobs that were fetched.
    release:
        Gives back jobs that were fetched, and starts none of them.
    take_stock:
        Gives back what was fetched without the worker's knowledge. Awaited now and then, and after a fetch that
        failed: the database may have done it, and only the answer been lost.
    worker_id:
        The id to fetch for; may change.
    listens:
        Whether the worker hears when it is notified.
    """

    def __init__(
        self,
        manager: JobManager,
        *,
        queues: tuple[str, ...] | None,
        polling_interval: float,
        room: Callable[[], int],
        take: Callable[[list[Job]], None],
        release: Callable[[list[Job]], None],
        take_stock: Callable[[], Awaitable[None]],
        worker_id: Callable[[], int],
        listens: bool,
        logger: logging.Logger,
    ) -> None:
        self._manager = manager
        self._queues = queues
        self._polling_interval = polling_interval
        self._room = room
        self._take = take
        self._release = release
        self._take_stock = take_stock
        self._worker_id = worker_id
        self._logger = logger
        self.open_fetch: OpenFetch | None = None
        """The fetch whose answer has not been read. Another thread may make it void."""
        self._woken = asyncio.Event()
        self._call = NotifyInterest(manager, queues, worker_id, listens=listens, wake=lambda: self.wake(upcoming=True))
        self._is_busy = False
        self._cursor = FetchCursor(is_kept=queues is None or len(queues) == 1)
        self._promote_next = True
        self._last_promotion = 0.0
        self._left_undecided = 0
        self._turn = Turn(logger)
        self._next_stock = 0.0
        self._stock_interval = _STOCK_INTERVAL
        self._news = False
        self._pace = Pace()
        self._news_timer: asyncio.TimerHandle | None = None
        self._due_timer: asyncio.TimerHandle | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._promotion_timer: asyncio.TimerHandle | None = None
        self._undecided = Backoff(first=0.02, longest=self._polling_interval)
        self._others_turn = Backoff(first=0.02, longest=_LONGEST_TURN)
        self._stopping = False
        self._backoff = Backoff()
        self._loop = asyncio.get_running_loop()

    def wake(self, upcoming: bool = False) -> None:
        """Look again: there is room, or (``upcoming``) waiting jobs may have fallen due."""
        self._promote_next = self._promote_next or upcoming
        self._woken.set()

    def notified(self, upcoming: bool) -> None:
        """Look again, and if there is little to fetch, once more a moment later. Notifications in vain are slowed down.

        Notifications that come before the look share it.
        """
        self._news = True
        self._promote_next = self._promote_next or upcoming
        if self._woken.is_set() or self._news_timer is not None:
            return
        pause = self._pace.wait(self._loop.time())
        if pause > 0:
            self._news_timer = self._loop.call_later(pause, self._wake_after_pause)
        else:
            self.wake()

    def _wake_after_pause(self) -> None:
        self._news_timer = None
        self.wake()

    def listening(self) -> None:
        """Notifications are heard from now on: what was notified before, and what a server that is gone knew of this
        worker, may be lost.
        """
        self._call.doubt()
        self.wake(upcoming=True)

    def look_from_start(self) -> None:
        """Look again, at jobs that come before the last ones, too: some were given back."""
        self._cursor.start_over()
        self.wake()

    def doubt(self) -> None:
        """Take stock before the next fetch: the database may have jobs of which the worker does not know."""
        self._take_stock_soon()
        self.wake()

    def _take_stock_soon(self) -> None:
        self._next_stock = 0.0
        self._stock_interval = _FIRST_STOCK_INTERVAL

    def stop(self) -> None:
        """Start no more jobs."""
        self._stopping = True
        self._woken.set()

    async def run(self, is_drained: Callable[[], bool] | None = None) -> None:
        """Run until stopped, or, with ``is_drained``, until nothing can be fetched and it says that all is done."""
        try:
            while not self._stopping:
                self._woken.clear()
                try:
                    await self._take_stock_if_due()
                    more = await self._fill() or await self._look_once_more()
                    self._backoff.reset()
                except BaseException as error:
                    if ends_task(error) or isinstance(error, GeneratorExit):
                        raise
                    await self._pause(error)
                    continue
                if more or self._woken.is_set():
                    continue
                if is_drained is not None and self._has_seen_all() and is_drained():
                    return
                await self._sleep()
        finally:
            self._cancel_timers()

    async def _take_stock_if_due(self) -> None:
        if self._loop.time() >= self._next_stock:
            await self._take_stock()
            self._next_stock = self._loop.time() + self._stock_interval
            self._stock_interval = min(self._stock_interval * 4, _STOCK_INTERVAL)

    async def _fill(self) -> bool:
        """Fetch as much as there is room for, and say whether to go on at once."""
        if self._room() <= 0:
            self._is_busy = True
            return False
        promoted_before = self._promotion_is_due()
        if promoted_before:
            await self._promote()
        if not await self._fetch():
            return False
        self._look_again_later()
        return not promoted_before and await self._promote() > 0

    async def _look_once_more(self) -> bool:
        """Nothing more can be started now: call for jobs, and see whether some came before the call was heard."""
        if self._is_busy:
            await self._call.busy()
            return False
        if self._woken.is_set() or not await self._call.idle():
            return False
        self._promote_next = True
        return True

    def _has_seen_all(self) -> bool:
        """Whether there was room, and no due job was left to look at."""
        return self._room() > 0 and not self._promote_next

    def _promotion_is_due(self) -> bool:
        interval = self._polling_interval if self._call.is_made else min(_UNCALLED_PROMOTION, self._polling_interval)
        return self._promote_next or self._loop.time() - self._last_promotion > interval

    async def _promote(self) -> int:
        self._promote_next = False
        promotion = await self._manager.promote_jobs(past=self._left_undecided, without_turn=self._turn.is_ignored)
        self._turn.note(promotion)
        if promotion.undecided is not None:
            self._left_undecided = promotion.undecided
        self._last_promotion = self._loop.time()
        if promotion.promoted or promotion.parked:
            self._pace.found()
        self._set_due_timer(promotion.next_due_in)
        if promotion.again:
            self._promote_next = True
            if promotion.promoted or promotion.parked:
                self._woken.set()
            else:
                self._promote_later(self._others_turn if promotion.undecided is None else self._undecided)
        else:
            self._undecided.reset()
            self._others_turn.reset()
        return promotion.promoted

    def _promote_later(self, backoff: Backoff) -> None:
        """Another worker is at it, or somebody holds what has to be looked at: one timer, with growing pauses."""
        if self._promotion_timer is not None:
            self._promotion_timer.cancel()
        self._promotion_timer = self._loop.call_later(backoff.next_wait(), self.wake, True)

    async def _fetch(self) -> bool:
        """Fetch jobs, and say whether room is left."""
        self._is_busy = False
        after = self._cursor.after
        has_room = await self._fetch_after(after)
        if has_room and after is not None:
            has_room = await self._fetch_after(None)  # there may be some that come before
        return has_room

    async def _fetch_after(self, after: Rank | None) -> bool:
        if self._stopping:
            return False
        began = self._loop.time()
        fetch = self.open_fetch = OpenFetch(self._worker_id())
        try:
            wanted = self._room()
            if wanted <= 0:
                return False
            jobs = await self._manager.fetch_jobs(
                self._queues, fetch.worker_id, wanted, after=after, with_arguments=False
            )
        finally:
            released_elsewhere = fetch.read()
            self.open_fetch = None
        if released_elsewhere is not None:
            self._is_busy = True
            self._release([job for job in jobs if job.id not in released_elsewhere])
            return False
        self._cursor.fetched(jobs, wanted=wanted, after=after, seconds=self._loop.time() - began)
        self._is_busy = self._is_busy or bool(jobs)
        if jobs:
            self._pace.found()
        self._take(jobs)
        return len(jobs) < wanted

    def _set_due_timer(self, next_due_in: float | None) -> None:
        if self._due_timer is not None:
            self._due_timer.cancel()
            self._due_timer = None
        if next_due_in is not None:
            self._due_timer = self._loop.call_later(min(max(next_due_in, 0), _LONGEST_TIMER), self.wake, True)

    def _look_again_later(self) -> None:
        if self._news:
            self._news = False
            if self._look_timer is not None:
                self._look_timer.cancel()  # one look for all news
            self._look_timer = self._loop.call_later(_SECOND_LOOK, self.wake)

    async def _sleep(self) -> None:
        looks_soon = self._call.looks_by_itself and self._room() > 0
        longest = _UNCALLED_FETCH if looks_soon else self._polling_interval
        try:
            async with asyncio.timeout(min(longest, max(self._next_stock - self._loop.time(), 0))):
                await self._woken.wait()
        except TimeoutError:
            self._promote_next = self._promote_next or not looks_soon

    async def _pause(self, error: BaseException) -> None:
        self._call.doubt()
        wait = self._backoff.next_wait()
        with contextlib.suppress(BaseException):  # a log handler that raises must not end the worker
            self._logger.warning(
                "Jobs cannot be fetched; trying again in %.1f s: %s",
                wait,
                error,
                extra={"action": "fetch_jobs_error"},
                exc_info=self._logger.isEnabledFor(logging.DEBUG),
            )
        self._promote_next = True
        self._take_stock_soon()
        loop_stops = asyncio.create_task(self._until_stopping())
        await asyncio.wait({loop_stops}, timeout=wait)
        loop_stops.cancel()

    async def _until_stopping(self) -> None:
        while not self._stopping:
            self._woken.clear()
            await self._woken.wait()

    def _cancel_timers(self) -> None:
        self._call.close()
        for timer in (self._due_timer, self._look_timer, self._news_timer, self._promotion_timer):
            if timer is not None:
                timer.cancel()
