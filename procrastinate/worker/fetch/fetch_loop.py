"""Keeps the worker's slots filled: wakes, promotes, fetches, starts, sleeps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from procrastinate._text.logs import Seldom
from procrastinate.core.channels import JobInserted
from procrastinate.core.errors import is_passing
from procrastinate.exceptions import ConnectorException
from procrastinate.manager import JobManager
from procrastinate.worker.fetch.failures import FetchFailures
from procrastinate.worker.fetch.fetcher import Claim, Fetcher, JobPool
from procrastinate.worker.fetch.looks import Looks
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.fetch.notify_interest import NotifyInterest
from procrastinate.worker.fetch.paused_queues import PausedQueues
from procrastinate.worker.fetch.promoter import Promoter
from procrastinate.worker.fetch.stock_schedule import Stock, StockSchedule
from procrastinate.worker.processes.exits import ends_task

_UNCALLED_FETCH = 0.005
"""Seconds until the next fetch of a worker that has enough to do and is not called."""
_EXPECTED_FETCH = 0.02
"""The same for a worker that probably fetches before, along with an outcome."""


class FetchLoop:
    """Keeps the worker's slots filled.

    It reads the noticeboard at the start of each round. It also looks when the database notifies, when the next waiting
    job falls due, and at each polling interval, whatever else is missed. While it has enough to do, it tells writers
    that they need not notify, and looks by itself.

    Parameters
    ----------
    board:
        What the other parts of the worker post, and the id to fetch for.
    pool:
        Takes the fetched jobs.
    stock:
        Asked now and then, and after a fetch that failed: the database may have run it, and only the answer is lost.
    paused:
        The queues that are paused.
    polling_interval:
        The longest time between two looks, in seconds.
    listens:
        Whether the worker hears when it is notified.
    """

    def __init__(
        self,
        manager: JobManager,
        board: Noticeboard,
        pool: JobPool,
        stock: Stock,
        paused: PausedQueues,
        *,
        queues: tuple[str, ...] | None,
        polling_interval: float,
        listens: bool,
        logger: logging.Logger,
    ) -> None:
        is_one_scan = queues is None or len(queues) == 1
        self._board = board
        self._pool = pool
        self._turn = asyncio.Lock()
        """Held while something is fetched or promoted."""
        self._polling_interval = polling_interval
        self._waited = 0.0
        """Seconds of the polling interval that have passed when only stock was due."""
        self._stock = StockSchedule(stock)
        self._looks = Looks(board.woken, longest_pause=polling_interval, may_overlook=not is_one_scan)
        self._call = NotifyInterest(manager, board, queues, listens=listens)
        self._promoter = Promoter(manager, self._looks, paused, interval=polling_interval, logger=logger)
        self.fetcher = Fetcher(manager, board, pool, self._looks, paused, queues, is_one_scan=is_one_scan)
        self._unsaid = Seldom(
            logger,
            "The database refused %d times to note whether this worker waits for notifications. It polls. "
            "The last error: %s",
            "notify_interest_refused",
        )
        self.failures = FetchFailures(logger)

    def notified(self, notification: JobInserted) -> None:
        """Look again, at once or a little later, or leave the job to the others if there is no room.

        The last fetch may have been faster than the notification. With room left, it has seen what the transaction of
        that job has made ready.
        """
        if self.fetcher.named.was_seen(notification["job_id"]) and not notification.get("upcoming", True):
            self._looks.look_again_later()
            return
        if self._looks.notified(notification, self._board.worker_id):
            self.fetcher.named.to_come = notification["job_id"]

    def listening(self) -> None:
        """Look for jobs now that the listener listens.

        Earlier notifications may be lost, and so may what a server knew of this worker.
        """
        self._call.doubt()
        self._looks.look()

    def _read_board(self) -> None:
        """Turn the notices into reasons to look. A reason sets the event, so the event is cleared last."""
        notices = self._board.read()
        if notices.is_in_doubt:
            self._stock.doubt()
        if notices.starts_over:
            self.fetcher.start_over()
        if notices.has_ended_step:
            self._looks.step_ended()
        if notices.hands_over and self._call.is_heard:
            self._looks.hand_overs.note()
        elif notices.hands_over:
            self._looks.handed_over()
        if notices.looks or (notices.has_room and not self._call.is_heard):
            self._looks.look(notices.is_upcoming)
        elif notices.is_upcoming:
            self._looks.promote()
        self._board.woken.clear()

    def stop(self) -> None:
        """Start no more jobs."""
        self._board.stop()

    async def leave(self) -> None:
        """Let writers call other workers from now on. It spares the others a pause, and may fail."""
        with contextlib.suppress(ConnectorException):
            await self._call.leave()

    async def run(self, is_drained: Callable[[], bool] | None = None) -> None:
        """Run until stopped, or, with ``is_drained``, until nothing can be fetched and it says that all is done."""
        try:
            while not self._board.is_stopping:
                self._read_board()
                try:
                    async with self._turn:
                        await self._stock.take_if_due()
                        is_busy = await self._fill()
                        more = await self._look_once_more(is_busy)
                    self.failures.end()
                except BaseException as error:
                    if ends_task(error) or isinstance(error, GeneratorExit):
                        raise
                    await self._pause(error)
                    continue
                if more or self._board.woken.is_set():
                    continue
                if is_drained is not None and self._has_seen_all() and is_drained():
                    if not self.fetcher.took_jobs:
                        return
                    self._look_after_the_last()
                    continue
                await self._sleep()
        finally:
            self._cancel_timers()

    async def fetch_along(self, claim: Claim) -> None:
        """Fetch with the statement that records outcomes, if a look is to follow them and the loop has nothing to do.

        A worker that is notified need not look: the trigger notifies it of the next job. It saves the round trip if
        there probably is one.

        Raises
        ------
        ConnectorException
            The statement has failed. It may have claimed jobs if the answer was lost.
        """
        if self._turn.locked() or (self._call.is_heard and not self._looks.hand_overs.is_next_expected):
            return
        async with self._turn:
            try:
                await self.fetcher.fetch_along(claim)
            finally:
                self._board.wake()

    async def _fill(self) -> bool:
        """Fetch as much as there is room for, if there is a reason to. Return true if there is work or no room."""
        if self._pool.room() <= 0:
            self._pool.wait_for_room(is_wanted=self._looks.is_fetch_due)
            await self.fetcher.call_others()
            return True
        await self._promoter.promote_if_due(is_called=self._call.is_made)
        return await self.fetcher.fetch_if_due()

    async def _look_once_more(self, is_busy: bool) -> bool:
        """Call for jobs when nothing more can start now, and look once for those that came before the call was heard.

        A worker whose call the database refuses finds jobs when it polls.
        """
        try:
            return await self._call_for_jobs(is_busy)
        except ConnectorException as error:
            if is_passing(error):
                raise
            self._unsaid.note(error)
            return False

    async def _call_for_jobs(self, is_busy: bool) -> bool:
        if is_busy:
            await self._call.busy(has_room=self._pool.room() > 0)
            return False
        if self._board.woken.is_set() or not await self._call.idle():
            return False
        self._looks.look()
        return True

    def _has_seen_all(self) -> bool:
        """Return true if there was room, and no due job was left to look at."""
        return self._pool.room() > 0 and not self._looks.is_promotion_due and not self._looks.is_fetch_due

    def _look_after_the_last(self) -> None:
        """Look at everything again before the end. Jobs may have deferred or retried others, and notices come later."""
        self.fetcher.took_jobs = False
        self._looks.look()

    async def _sleep(self) -> None:
        looks_soon = self._call.looks_by_itself and self._pool.room() > 0
        soon = _EXPECTED_FETCH if self._looks.hand_overs.is_next_expected else _UNCALLED_FETCH
        longest = soon if looks_soon else max(self._polling_interval - self._waited, 0.0)
        pause = min(longest, self._stock.due_in)
        try:
            async with asyncio.timeout(pause):
                await self._board.woken.wait()
        except TimeoutError:
            if pause < longest:
                self._waited += pause
                return
            self._looks.look(upcoming=not looks_soon)
        self._waited = 0.0

    async def _pause(self, error: BaseException) -> None:
        self._call.doubt()
        wait = self.failures.note(error)
        self._looks.look()
        self._stock.doubt()
        loop_stops = asyncio.create_task(self._until_stopping())
        await asyncio.wait({loop_stops}, timeout=wait)
        loop_stops.cancel()

    async def _until_stopping(self) -> None:
        while not self._board.is_stopping:
            self._board.woken.clear()
            await self._board.woken.wait()

    def _cancel_timers(self) -> None:
        self._call.close()
        self._looks.close()
