"""Say what a worker does, for its heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from concurrent.futures import Future
from typing import Any

from procrastinate.core import WorkerReport
from procrastinate.core.errors import code_of
from procrastinate.worker.fetch.fetch_loop import FetchLoop
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.fetch.paused_queues import PausedQueues
from procrastinate.worker.run.outcome_writer import OutcomeWriter
from procrastinate.worker.run.slots import Slots
from procrastinate.worker.services.teller import LoopBeat


class WorkReport:
    """Reads the parts of a worker. Create it in the event loop, and use it in any thread."""

    def __init__(
        self,
        board: Noticeboard,
        slots: Slots,
        outcome_writer: OutcomeWriter,
        fetch_loop: FetchLoop,
        paused: PausedQueues,
        loop_beat: LoopBeat,
    ) -> None:
        self._board = board
        self._slots = slots
        self._outcome_writer = outcome_writer
        self._fetch_loop = fetch_loop
        self._paused = paused
        self._loop_beat = loop_beat
        self._event_loop = asyncio.get_running_loop()

    def make(self) -> WorkerReport:
        """Return what the worker does now."""
        now, running = self._event_loop.time(), self._slots.running_ids
        fetched_at, failure = self._fetch_loop.fetcher.fetched_at, self._fetch_loop.failures.last
        return WorkerReport(
            state="draining" if self._board.is_stopping else "running",
            running=len(running),
            running_ids=tuple(running),
            fetched_ahead=self._slots.fetched_ahead,
            lost_threads=self._slots.lost_threads,
            unwritten=len(self._outcome_writer.unrecorded_ids),
            loop_age=self._loop_beat.age,
            fetch_age=None if fetched_at is None else now - fetched_at,
            error_code=None if failure is None else code_of(failure[0]),
            error_age=None if failure is None else now - failure[1],
            paused_queues=tuple(sorted(self._paused.names)),
        )

    def calls_in_threads(self) -> Collection[Future[Any]]:
        """Return the calls that still run in threads, once the event loop has ended."""
        return self._slots.calls_in_threads()
