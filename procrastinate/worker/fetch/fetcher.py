"""Claims ready jobs for the free slots of a worker, and hands them to its pool of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from procrastinate.core import Rank
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.worker.fetch.fetch_cursor import FetchCursor
from procrastinate.worker.fetch.looks import Looks
from procrastinate.worker.fetch.named_jobs import NamedJobs
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.fetch.open_fetch import OpenFetch
from procrastinate.worker.fetch.paused_queues import PausedQueues


class Claim(Protocol):
    """Claims ready jobs."""

    async def __call__(
        self, worker_id: int, limit: int, *, queues: tuple[str, ...] | None, after: Rank | None
    ) -> list[Job] | None:
        """Claim up to ``limit`` jobs. ``None`` means that no fetch was made."""


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

    def begin_fetch(self) -> None:
        """Take note that a fetch begins, which is to fill the room."""

    def end_fetch(self, *, wants_more: bool) -> None:
        """Take note that a fetch has ended. ``wants_more`` says whether more jobs may be ready."""

    def wait_for_room(self, *, is_wanted: bool) -> None:
        """Take note that there is no room, and whether a fetch would be due."""


class Fetcher:
    """Fetches from the place where the last fetch ended, and from the start if that leaves room.

    Parameters
    ----------
    board:
        Has the id to fetch for, and says whether the worker stops.
    pool:
        Takes the fetched jobs.
    looks:
        Learns what a fetch leads to.
    paused:
        The queues that are paused. While there are any, every fetch looks from the start.
    is_one_scan:
        Whether one scan of an index finds all ready jobs of the queues, so that a fetch can go on where another ended.
    """

    def __init__(
        self,
        manager: JobManager,
        board: Noticeboard,
        pool: JobPool,
        looks: Looks,
        paused: PausedQueues,
        queues: tuple[str, ...] | None,
        *,
        is_one_scan: bool,
    ) -> None:
        self._manager = manager
        self._board = board
        self._pool = pool
        self._looks = looks
        self._paused = paused
        self._queues = queues
        self._cursor = FetchCursor(is_kept=is_one_scan)
        self.open_fetch: OpenFetch | None = None
        """The fetch whose answer has not been read. Another thread may make it void."""
        self.named = NamedJobs()
        """What is known of jobs that notifications name."""
        self.took_jobs = False
        """Whether a fetch has found jobs since this was last set to false."""
        self.fetched_at: float | None = None
        """Time of the loop at which the last fetch ended that did not fail."""
        self.on_fetch: Callable[[float, int], None] | None = None
        """Called after each fetch with its seconds and the number of jobs."""

    def start_over(self) -> None:
        """Look from the start at the next fetch."""
        self._cursor.start_over()
        self.named.forget()

    async def call_others(self) -> None:
        """Notify the other workers of a job that was notified to this one, which has no room for it."""
        await self.named.call_others(self._manager)

    async def fetch_if_due(self) -> bool:
        """Fetch if there is a reason to, and return true if jobs were found.

        Raises
        ------
        ConnectorException
            The database cannot be reached, or refuses the statement.
        """
        found_along = self._looks.hand_overs.take_found()
        if not self._looks.is_fetch_due:
            return found_along
        return await self._fetch(self._fetch_from_last_place, self._claim) or found_along

    async def fetch_along(self, claim: Claim) -> None:
        """Fetch with the statement that records outcomes. Do nothing if there is no room for jobs.

        Raises
        ------
        ConnectorException
            The statement has failed. It may have claimed jobs if the answer was lost.
        """
        if self._board.is_stopping or self._paused.names or self._pool.room() <= 0:
            return
        self._looks.hands_over()
        self._looks.hand_overs.found_along(await self._fetch(self._fetch_from_one_place, claim))

    async def _claim(
        self, worker_id: int, limit: int, *, queues: tuple[str, ...] | None, after: Rank | None
    ) -> list[Job]:
        paused = self._paused.names
        return await self._manager.fetch_jobs(
            queues, worker_id, limit, after=after, with_arguments=False, paused=paused
        )

    async def _fetch(self, fetch: Callable[[Claim], Awaitable[tuple[bool, bool]]], claim: Claim) -> bool:
        """Fetch in one of two ways. Return whether there were jobs."""
        self._looks.fetches()
        awaited, self.named.to_come = self.named.to_come, None
        has_room = True
        follows_hand_over = self._looks.hand_overs.is_recent
        self._pool.begin_fetch()
        try:
            found, has_room = await fetch(claim)
        finally:
            self._pool.end_fetch(wants_more=not has_room)
        self._looks.fetched(found=found, has_room=has_room)
        if found and has_room and self.named.was_missed(awaited):
            self._looks.look_again_later()
        if found and follows_hand_over:
            self._looks.hand_overs.is_next_expected = True
        return found

    async def _fetch_from_last_place(self, claim: Claim) -> tuple[bool, bool]:
        """Fetch, and from the start if that leaves room. Return whether there were jobs, and whether room is left."""
        after = None if self._paused.names else self._cursor.after
        found, has_room = await self._fetch_after(after, claim)
        if has_room and after is not None:
            more, has_room = await self._fetch_after(None, claim)  # there may be some that come before
            found = found or more
        return found, has_room

    async def _fetch_from_one_place(self, claim: Claim) -> tuple[bool, bool]:
        """Fetch once. If that leaves room, a fetch from the start is due."""
        after = self._cursor.after
        found, has_room = await self._fetch_after(after, claim)
        return found, has_room and after is None

    async def _fetch_after(self, after: Rank | None, claim: Claim) -> tuple[bool, bool]:
        """Fetch jobs. Return whether there were any, and whether room is left."""
        paused = self._paused.names
        if self._board.is_stopping:
            return False, False
        loop = asyncio.get_running_loop()
        began = loop.time()
        fetch = self.open_fetch = OpenFetch(self._board.worker_id)
        try:
            wanted = self._pool.room()
            if wanted <= 0:
                return False, False
            claimed = await claim(fetch.worker_id, wanted, queues=self._queues, after=after)
            if claimed is None:
                return False, False
            jobs = claimed
            await self._pool.tell_apart(jobs)
        finally:
            released_elsewhere = fetch.read()
            self.open_fetch = None
        if released_elsewhere is not None:
            self._pool.release_unstarted([job for job in jobs if job.id not in released_elsewhere])
            return True, False
        jobs = self._release_paused(jobs, since=paused)
        self.fetched_at = loop.time()
        self._cursor.fetched([] if paused else jobs, wanted=wanted, after=after, seconds=self.fetched_at - began)
        if self.on_fetch is not None:
            self.on_fetch(self.fetched_at - began, len(jobs))
        self.took_jobs = self.took_jobs or bool(jobs)
        if jobs:
            self.named.fetched(jobs, has_room=len(jobs) < wanted)
        self._pool.take(jobs)
        return bool(jobs), len(jobs) < wanted

    def _release_paused(self, jobs: list[Job], *, since: frozenset[str]) -> list[Job]:
        """Release the jobs of queues that were paused during the fetch, and return the others."""
        paused = self._paused.names - since
        if not paused:
            return jobs
        self._pool.release_unstarted([job for job in jobs if job.queue in paused])
        return [job for job in jobs if job.queue not in paused]
