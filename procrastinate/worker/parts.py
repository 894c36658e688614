"""The parts of a worker's run, made in the order in which they need each other."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from procrastinate.manager import JobManager
from procrastinate.worker.fetch.fetch_loop import FetchLoop
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.fetch.paused_queues import PausedQueues
from procrastinate.worker.fetch.release import Releaser
from procrastinate.worker.run.observed_ends import LostJobs
from procrastinate.worker.run.outcome_writer import OutcomeWriter
from procrastinate.worker.run.run_statistics import RunStatistics
from procrastinate.worker.run.sharing_slots import SharingSlots
from procrastinate.worker.run.slots import Slots
from procrastinate.worker.services.limit_definer import LimitDefiner
from procrastinate.worker.services.liveness_watch import Pulse
from procrastinate.worker.services.loop_watch import LoopWatch
from procrastinate.worker.services.pause_keeper import PauseKeeper
from procrastinate.worker.services.report_writer import ReportWriter
from procrastinate.worker.services.rescuer import Rescuer
from procrastinate.worker.services.stock_taker import StockTaker
from procrastinate.worker.services.watch_duty import WatchDuty

if TYPE_CHECKING:
    from procrastinate.worker.worker import Worker


class Parts:
    """What serves the jobs of a registered worker.

    Parameters
    ----------
    on_last:
        Called after the start of the last job that the worker may start (``max_jobs``).
    """

    def __init__(
        self, worker: Worker, manager: JobManager, limit_definer: LimitDefiner, on_last: Callable[[], None]
    ) -> None:
        assert worker.worker_id is not None
        settings = worker.settings
        self.board = Noticeboard(worker.worker_id)
        self.paused = PausedQueues()
        self.outcome_writer = OutcomeWriter(manager, settings.delete_jobs, worker.logger, self.board)
        self.releaser = Releaser(manager, self.board, worker.logger)
        self.statistics = RunStatistics()
        self.loop_watch = LoopWatch()
        self.slots = self._make_slots(worker, manager, on_last)
        self.pulse = Pulse()
        self.rescuer = Rescuer(
            manager,
            self.board,
            WatchDuty(settings.update_heartbeat_interval),
            interval=settings.update_heartbeat_interval,
            legacy_worker_timeout=settings.legacy_worker_timeout,
            pulse=self.pulse,
            max_rescues=settings.max_rescues,
            posts_looks=not settings.wait,
            lost_jobs=LostJobs(worker),
            limit_definer=limit_definer,
            logger=worker.logger,
        )
        self.fetch_loop = self._make_fetch_loop(worker, manager)
        self.outcome_writer.recorder.fetch_along = self.fetch_loop.fetch_along
        self.pause_keeper = PauseKeeper(manager, self.board, self.paused, self.slots, self.rescuer.duty)
        self.report_writer = ReportWriter(manager, worker.reports, self.board)

    def _make_slots(self, worker: Worker, manager: JobManager, on_last: Callable[[], None]) -> Slots:
        shared = worker.shared_slots
        make = Slots if shared is None else functools.partial(SharingSlots, shared=shared)
        return make(
            worker,
            manager=manager,
            board=self.board,
            outcome_writer=self.outcome_writer,
            releaser=self.releaser,
            statistics=self.statistics,
            on_last=on_last,
            watch=self.loop_watch,
        )

    def _make_fetch_loop(self, worker: Worker, manager: JobManager) -> FetchLoop:
        settings = worker.settings
        stock = StockTaker(
            manager, self.board, self.slots, self.outcome_writer, self.rescuer, max_rescues=settings.max_rescues
        )
        return FetchLoop(
            manager,
            self.board,
            self.slots,
            stock,
            self.paused,
            queues=settings.queues,
            polling_interval=settings.fetch_job_polling_interval,
            listens=settings.listen_notify and settings.wait,
            logger=worker.logger,
        )
