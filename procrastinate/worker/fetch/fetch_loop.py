"""Keeps the worker's slots filled: wakes, promotes, fetches, starts, sleeps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from procrastinate.core import Rank
from procrastinate.core.channels import JobInserted
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.worker.backoff import Backoff
from procrastinate.worker.fetch.fetch_cursor import FetchCursor
from procrastinate.worker.fetch.looks import Looks
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.fetch.notify_interest import NotifyInterest
from procrastinate.worker.fetch.open_fetch import OpenFetch
from procrastinate.worker.fetch.paused_queues import PausedQueues
from procrastinate.worker.fetch.promotion_turn import Turn
from procrastinate.worker.processes.exits import ends_task

_STOCK_INTERVAL = 30.0
_FIRST_STOCK_INTERVAL = 0.1
"""Seconds between two looks at what the database says is this worker's. In doubt the second look comes sooner: the
first one passes over a row that another session has locked."""
_UNCALLED_FETCH = 0.005
_UNCALLED_PROMOTION = 0.1
"""Seconds until the next fetch, and the next promotion, of a worker that has enough to do and is not called."""


class JobPool(Protocol):
    """The jobs of the worker."""

    def room(self) -> int:
        """Return how many jobs can be taken now."""

    async def tell_apart(self, jobs: list[Job]) -> None:
        """Note the fetched jobs that have the id of another job of this worker."""

    def take(self, jobs: list[Job]) -> None:
        """Take fetched jobs."""

    def release_unstarted(self, jobs: list[Job]) -> None:
        """Release fetched jobs and start none of them."""


class Stock(Protocol):
    """What reconciles the worker's jobs with the database."""

    async def take_stock(self) -> None:
        """Release what was fetched without the worker's knowledge."""


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
        self._manager = manager
        self._board = board
        self._pool = pool
        self._stock = stock
        self._paused = paused
        self._queues = queues
        self._polling_interval = polling_interval
        self._logger = logger
        self.open_fetch: OpenFetch | None = None
        """The fetch whose answer has not been read. Another thread may make it void."""
        self._loop = asyncio.get_running_loop()
        is_one_scan = queues is None or len(queues) == 1
        self._looks = Looks(board.woken, longest_pause=polling_interval, may_overlook=not is_one_scan)
        self._call = NotifyInterest(manager, board, queues, listens=listens)
        self._is_busy = False
        self._took_jobs = False
        self._cursor = FetchCursor(is_kept=is_one_scan)
        self._last_promotion = 0.0
        self._left_undecided = 0
        self._turn = Turn(logger)
        self._next_stock = 0.0
        self._stock_interval = _STOCK_INTERVAL
        self._named_for: int | None = None
        self._seen_last: frozenset[int | None] = frozenset()
        self._stopping = False
        self._backoff = Backoff()
        self.fetched_at: float | None = None
        """Time of the loop at which the last fetch ended that did not fail."""
        self.failure: tuple[BaseException, float] | None = None
        """The last error, and the time of the loop."""

    def notified(self, notification: JobInserted) -> None:
        """Look again, at once or a little later, or leave the job to the others if there is no room."""
        if self._looks.notified(notification, self._board.worker_id):
            self._named_for = notification["job_id"]

    def listening(self) -> None:
        """Notifications are heard from now on: what was notified before, and what a server that is gone knew of this
        worker, may be lost.
        """
        self._call.doubt()
        self._looks.look()

    def _read_board(self) -> None:
        """Turn the notices into reasons to look. A reason sets the event, so the event is cleared last."""
        notices = self._board.read()
        if notices.is_in_doubt:
            self._take_stock_soon()
        if notices.starts_over:
            self._cursor.start_over()
        if notices.looks or (notices.has_room and not self._call.is_heard):
            self._looks.look(notices.is_upcoming)
        elif notices.is_upcoming:
            self._looks.promote()
        self._board.woken.clear()

    def _take_stock_soon(self) -> None:
        self._next_stock = 0.0
        self._stock_interval = _FIRST_STOCK_INTERVAL

    def stop(self) -> None:
        """Start no more jobs."""
        self._stopping = True
        self._board.woken.set()

    async def leave(self) -> None:
        """Let writers call other workers from now on. It spares the others a pause, and may fail."""
        with contextlib.suppress(ConnectorException):
            await self._call.leave()

    async def run(self, is_drained: Callable[[], bool] | None = None) -> None:
        """Run until stopped, or, with ``is_drained``, until nothing can be fetched and it says that all is done."""
        try:
            while not self._stopping:
                self._read_board()
                try:
                    await self._take_stock_if_due()
                    await self._fill()
                    more = await self._look_once_more()
                    self._backoff.reset()
                except BaseException as error:
                    if ends_task(error) or isinstance(error, GeneratorExit):
                        raise
                    await self._pause(error)
                    continue
                if more or self._board.woken.is_set():
                    continue
                if is_drained is not None and self._has_seen_all() and is_drained():
                    if not self._took_jobs:
                        return
                    self._look_after_the_last()
                    continue
                await self._sleep()
        finally:
            self._cancel_timers()

    async def _take_stock_if_due(self) -> None:
        if self._loop.time() >= self._next_stock:
            await self._stock.take_stock()
            self._next_stock = self._loop.time() + self._stock_interval
            self._stock_interval = min(self._stock_interval * 4, _STOCK_INTERVAL)

    async def _fill(self) -> None:
        """Fetch as much as there is room for, if there is a reason to."""
        self._is_busy = self._pool.room() <= 0
        if self._is_busy:
            await self._call_others()
            return
        if self._promotion_is_due():
            await self._promote()
        if self._looks.is_fetch_due:
            await self._fetch()

    async def _call_others(self) -> None:
        """A job is notified to one worker, and this one has no room for it."""
        job_id, self._named_for = self._named_for, None
        if job_id is not None:
            await self._manager.call_all_workers(job_id=job_id)

    async def _look_once_more(self) -> bool:
        """Nothing more can be started now: call for jobs, and see whether some came before the call was heard."""
        if self._is_busy:
            await self._call.busy(has_room=self._pool.room() > 0)
            return False
        if self._board.woken.is_set() or not await self._call.idle():
            return False
        self._looks.look()
        return True

    def _has_seen_all(self) -> bool:
        """Whether there was room, and no due job was left to look at."""
        return self._pool.room() > 0 and not self._looks.is_promotion_due and not self._looks.is_fetch_due

    def _look_after_the_last(self) -> None:
        """Look at everything again before the end. Jobs may have deferred or retried others, and notices come later."""
        self._took_jobs = False
        self._looks.look()

    def _promotion_is_due(self) -> bool:
        interval = self._polling_interval if self._call.is_made else min(_UNCALLED_PROMOTION, self._polling_interval)
        return self._looks.is_promotion_due or self._loop.time() - self._last_promotion > interval

    async def _promote(self) -> None:
        self._looks.promotes()
        promotion = await self._manager.promote_jobs(
            past=self._left_undecided, without_turn=self._turn.is_ignored, paused=self._paused.names
        )
        self._turn.note(promotion)
        if promotion.undecided is not None:
            self._left_undecided = promotion.undecided
        self._last_promotion = self._loop.time()
        self._looks.promoted(promotion)
        if promotion.has_arrivals:
            self._looks.resolved(await self._manager.resolve_arrivals())

    async def _fetch(self) -> None:
        self._looks.fetches()
        self._named_for = None
        paused = self._paused.names
        after = None if paused else self._cursor.after
        has_room = await self._fetch_after(after, paused)
        if has_room and after is not None:
            has_room = await self._fetch_after(None, paused)  # there may be some that come before
        self._looks.fetched(found=self._is_busy, has_room=has_room)

    async def _fetch_after(self, after: Rank | None, paused: frozenset[str]) -> bool:
        """Fetch jobs, and say whether room is left. While a queue is paused, every fetch looks from the start."""
        if self._stopping:
            return False
        began = self._loop.time()
        fetch = self.open_fetch = OpenFetch(self._board.worker_id)
        try:
            wanted = self._pool.room()
            if wanted <= 0:
                return False
            jobs = await self._manager.fetch_jobs(
                self._queues, fetch.worker_id, wanted, after=after, with_arguments=False, paused=paused
            )
            await self._pool.tell_apart(jobs)
        finally:
            released_elsewhere = fetch.read()
            self.open_fetch = None
        if released_elsewhere is not None:
            self._is_busy = True
            self._pool.release_unstarted([job for job in jobs if job.id not in released_elsewhere])
            return False
        self.fetched_at = self._loop.time()
        self._cursor.fetched([] if paused else jobs, wanted=wanted, after=after, seconds=self.fetched_at - began)
        self._is_busy = self._is_busy or bool(jobs)
        self._took_jobs = self._took_jobs or bool(jobs)
        self._pool.take(jobs)
        return len(jobs) < wanted

    async def _sleep(self) -> None:
        looks_soon = self._call.looks_by_itself and self._pool.room() > 0
        longest = _UNCALLED_FETCH if looks_soon else self._polling_interval
        try:
            async with asyncio.timeout(min(longest, max(self._next_stock - self._loop.time(), 0))):
                await self._board.woken.wait()
        except TimeoutError:
            self._looks.look(upcoming=not looks_soon)

    async def _pause(self, error: BaseException) -> None:
        self._call.doubt()
        self.failure = (error, self._loop.time())
        wait = self._backoff.next_wait()
        with contextlib.suppress(BaseException):  # a log handler that raises must not end the worker
            self._logger.warning(
                "Jobs cannot be fetched; trying again in %.1f s: %s",
                wait,
                error,
                extra={"action": "fetch_jobs_error"},
                exc_info=self._logger.isEnabledFor(logging.DEBUG),
            )
        self._looks.look()
        self._take_stock_soon()
        loop_stops = asyncio.create_task(self._until_stopping())
        await asyncio.wait({loop_stops}, timeout=wait)
        loop_stops.cancel()

    async def _until_stopping(self) -> None:
        while not self._stopping:
            self._board.woken.clear()
            await self._board.woken.wait()

    def _cancel_timers(self) -> None:
        self._call.close()
        self._looks.close()
