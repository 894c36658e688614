"""One run of a worker, from its registration to its goodbye: start, work, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from procrastinate import _long_waits, core, exceptions, worker_observers
from procrastinate._durations import setting
from procrastinate.core import HeartbeatAnswer
from procrastinate.core.defaults import without_builtin
from procrastinate.job_context import queues_display
from procrastinate.manager import JobManager
from procrastinate.periodic import PeriodicDeferrer, read_max_delay
from procrastinate.worker.parts import Parts
from procrastinate.worker.processes import signals
from procrastinate.worker.services.abort_poller import AbortPoller
from procrastinate.worker.services.blocked_loop import BlockedLoop
from procrastinate.worker.services.bulk_work import BulkWork
from procrastinate.worker.services.heartbeat import Heartbeat
from procrastinate.worker.services.limit_definer import LimitDefiner
from procrastinate.worker.services.listener import Listener
from procrastinate.worker.services.supervision import Service, Services
from procrastinate.worker.services.teller import LoopBeat, Teller, identity_of
from procrastinate.worker.services.thread_release import ThreadRelease
from procrastinate.worker.services.work_report import WorkReport
from procrastinate.worker.worker_settings import WorkerSettings
from procrastinate.worker_observers import ObservedWorker

if TYPE_CHECKING:
    from procrastinate.worker.worker import Worker

_LAST_WRITES_TIMEOUT = 5.0
"""Seconds that the last outcomes and the goodbye have at least. If the database is away, the others will find out."""
_HASTY_TIMEOUT = 1.0
"""Seconds that each step of the end has in a worker that ends at once: its jobs, their outcomes, the goodbye."""


class WorkerRun:
    """What a registered worker has while it runs: its jobs, and the parts that serve them."""

    def __init__(self, worker: Worker, manager: JobManager, limit_definer: LimitDefiner) -> None:
        self._worker = worker
        self._manager = manager
        self._limit_definer = limit_definer
        self._event_loop = asyncio.get_running_loop()
        self._running_services = Services(worker.logger)
        self._parts = Parts(worker, manager, limit_definer, on_last=self._stop_at_last_job)
        self._may_begin = asyncio.Event()
        self._loop_beat = LoopBeat(self._event_loop)
        self._work_report = self._make_work_report()
        self._heartbeat = self._make_heartbeat()
        max_delay = read_max_delay(**(worker.app.periodic_defaults or {}))
        self._deferrer = PeriodicDeferrer(worker.app.periodic_registry, max_delay, manager)

    @property
    def _settings(self) -> WorkerSettings:
        """The settings as they are now. A job may change the graceful timeout of its worker."""
        return self._worker.settings

    @property
    def worker_id(self) -> int:
        """The id under which the worker is registered. It changes if the worker must register again."""
        return self._parts.board.worker_id

    def stop(self) -> None:
        """Start no more jobs, and wait for no look at the start."""
        self._announce_stop()
        self._may_begin.set()
        self._parts.rescuer.has_looked.set()
        self._deferrer.has_looked.set()
        self._parts.slots.stop()

    def hasten(self) -> None:
        """Let the others take the jobs soon after the end of this process. Safe in a signal handler."""
        self._heartbeat.hasten()

    # From the start to the end

    async def run(self) -> None:
        """Run jobs until stopped, and sign off."""
        if not worker_observers.EVERYWHERE:
            await self._run()
            return
        observed = self._make_observed()
        observed.start()
        try:
            await self._run()
        finally:
            await observed.end()

    async def _run(self) -> None:
        """Run the services until the last job has ended. The heartbeat and the abort poller go on as long."""
        self._log(logging.INFO, "start_worker", "Starting worker on %s", queues_display(self._settings.queues))
        self._heartbeat.start()
        self._parts.loop_watch.start(self._make_blocked_loop().handle, is_needed=lambda: not self._parts.slots.is_empty)
        self._running_services.start(self._services())
        try:
            await self._work_gracefully()
        finally:
            with _long_waits.told(self._tell("its services to end")):
                await self._running_services.end(self._patience)
            running = self._parts.slots.close()
            # A cancellation may end what follows, and the thread of the heartbeat would go on.
            self._heartbeat.stop(after=running)
            self._parts.loop_watch.stop()
            with _long_waits.told(self._tell("its last statements and its threads, to end")):
                try:
                    await self._sign_off(stays=bool(running))
                finally:
                    self._parts.outcome_writer.observed_ends.leave()
        self._log(logging.INFO, "stop_worker", "Stopped worker on %s", queues_display(self._settings.queues))

    async def _sign_off(self, *, stays: bool) -> None:
        """Finish what is under way, and say goodbye.

        Parameters
        ----------
        stays:
            True if the worker stays registered, because some of its jobs still run.
        """
        await self._parts.loop_watch.join(self._patience)
        await self._parts.releaser.finish(self._patience)
        if stays:
            await self._heartbeat.hastened(self._patience)
            return
        await self._say_goodbye()
        await self._heartbeat.join(self._patience)

    async def _warn_of_unknown_queues(self) -> None:
        """Warn of queues of this worker that no task names and that have no jobs: their names may be misspelt."""
        known = self._worker.app.queues_of_tasks()
        unknown = [name for name in self._settings.queues or () if known is not None and name not in known]
        if unknown:
            with contextlib.suppress(exceptions.ConnectorException):  # without an answer, the warning is as good
                waiting = await self._manager.connector.run_async(core.list_waiting_queues, queues=unknown)
                unknown = [name for name in unknown if name not in waiting]
        if unknown and known is not None:
            self._log(
                logging.WARNING,
                "unknown_queues",
                "No task has the queue %s, and no job waits there. The tasks have the queues %s",
                ", ".join(map(repr, unknown)),
                ", ".join(map(repr, without_builtin(known))),
            )

    @property
    def _patience(self) -> float:
        """Seconds that each of the last steps may take."""
        return _HASTY_TIMEOUT if self._worker.ends_at_once else _LAST_WRITES_TIMEOUT

    async def _work_gracefully(self) -> None:
        """Work until stopped.

        The first cancellation stops the worker gracefully. A second one ends it at once, and so does the cancellation
        that follows a second signal.
        """
        working = asyncio.create_task(self._work(), name="work")
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError:
            self._worker.stop()
            await self._end(working)
            raise

    async def _end(self, working: asyncio.Task[None]) -> None:
        """Wait for the work to end, or for the order to end at once."""
        if not self._worker.ends_at_once:
            try:
                await asyncio.shield(working)
                return
            except asyncio.CancelledError:
                self._worker.ends_at_once = True
        await self._cut_short(working)

    async def _cut_short(self, working: asyncio.Task[None]) -> None:
        """Cancel the jobs, and write their outcomes if that takes no time."""
        self.stop()
        message = "Ending worker at once: %s cancelled. Each runs again once it no longer runs here"
        self._log(logging.WARNING, "end_worker_at_once", message, _jobs_are(len(self._parts.slots)))
        working.cancel()
        self._parts.slots.cut()
        await asyncio.wait([working, asyncio.create_task(self._parts.slots.ended())], timeout=_HASTY_TIMEOUT)
        try:
            async with asyncio.timeout(_HASTY_TIMEOUT):
                await self._parts.outcome_writer.flush()
        except TimeoutError:
            self._tell_lost_outcomes()

    async def _work(self) -> None:
        """Run jobs until stopped, once the heart beats. Then drain, and write the last outcomes."""
        if self._worker.stop_requested:
            self.stop()
        with _long_waits.told(self._tell("its first heartbeat, before it fetches jobs")):
            await self._may_begin.wait()
        await self._warn_of_unknown_queues()
        if not self._settings.wait:
            await self._look_around()
        await self._parts.fetch_loop.run(None if self._settings.wait else self._is_drained)
        self._running_services.cancel("deferrer")  # what it defers now would wait for the next worker
        self._parts.slots.stop()
        self._announce_stop()
        await self._end_last_jobs()

    async def _look_around(self) -> None:
        """Wait for the jobs that a worker with an end finds at its start: those of dead workers, and due ticks."""
        with _long_waits.told(self._tell("a look for jobs of workers that are gone")):
            await self._parts.rescuer.has_looked.wait()  # what is rescued takes its place among the others
        with _long_waits.told(self._tell("the jobs of due ticks")):
            await self._deferrer.has_looked.wait()  # if cron starts the workers, no other may defer them

    async def _end_last_jobs(self) -> None:
        """Let the running jobs end, and record them. From now on, notifications name other workers."""
        leaving = (
            None if self._parts.slots.is_empty else asyncio.create_task(self._parts.fetch_loop.leave(), name="leave")
        )
        try:
            await self._parts.slots.drain(self._settings.shutdown_graceful_timeout)
            await self._write_last_outcomes()
            await self._parts.report_writer.finish(self._patience)
        finally:
            if leaving is not None:
                leaving.cancel()
                await asyncio.wait({leaving}, timeout=self._patience)

    def _announce_stop(self) -> None:
        """Say once what the worker does when it stops."""
        if self._parts.board.is_stopping:
            return
        self._parts.board.stop()
        running, graceful = len(self._parts.slots), self._settings.shutdown_graceful_timeout
        words = ""
        if running:
            limit = "without a limit" if graceful is None else f"for {setting(graceful)}, then asks them to end"
            words = f". It fetches no more, and waits for them {limit}"
            words += ". A second signal ends it at once" if signals.second_ends() else ""
        self._log(logging.INFO, "stopping_worker", "Stopping worker: %s running%s", _jobs_are(running), words)

    async def _write_last_outcomes(self) -> None:
        """Write the outcomes within the graceful timeout, if there is one, or a little longer.

        A job whose outcome is not written by then runs again elsewhere.
        """
        graceful = self._settings.shutdown_graceful_timeout
        try:
            async with asyncio.timeout(None if graceful is None else max(graceful, _LAST_WRITES_TIMEOUT)):
                await self._flush()
        except TimeoutError:
            self._tell_lost_outcomes()

    def _tell_lost_outcomes(self) -> None:
        unrecorded = len(self._parts.outcome_writer.unrecorded_ids)
        self._log(logging.ERROR, "outcomes_lost", "The outcomes of %d jobs could not be written", unrecorded)

    async def _flush(self) -> None:
        """Wait for the last outcomes, and say for which."""

        def tell(waited: float) -> None:
            ids = sorted(self._parts.outcome_writer.unrecorded_ids)
            message = "Stopping worker: waiting to record the outcomes of %d jobs (%s)"
            self._log(logging.WARNING, "waiting_for_outcomes", message, len(ids), _shown(ids))

        with _long_waits.told(tell, first=1.0):
            await self._parts.outcome_writer.flush()

    def _tell(self, what: str) -> Callable[[float], None]:
        """Return what logs that the worker waits for something."""
        message = "The worker waits for %s (%.0f s)"
        return lambda waited: self._log(logging.WARNING, "worker_waits", message, what, waited)

    async def _say_goodbye(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._manager.unregister_worker(self.worker_id)
        except (exceptions.ConnectorException, TimeoutError) as error:
            self._log(logging.WARNING, "unregister_worker_error", "The worker could not sign off: %s", error)

    # Jobs

    def _stop_at_last_job(self) -> None:
        self._log(logging.INFO, "max_jobs_started", "Stopping after %d jobs", self._settings.max_jobs)
        self._worker.stop()
        self.stop()  # at once, before another fetch

    def _is_drained(self) -> bool:
        """Return true if nothing is left to do, now or soon. If cron starts the workers, no other may ever come."""
        return (
            self._parts.slots.is_empty
            and self._parts.outcome_writer.is_idle
            and not self._parts.rescuer.has_jobs_to_come
        )

    # The parts

    def _make_blocked_loop(self) -> BlockedLoop:
        release = ThreadRelease(
            self._parts.slots,
            self._parts.outcome_writer,
            self._parts.releaser,
            self._manager,
            self._parts.fetch_loop.fetcher,
            logger=self._worker.logger,
        )
        return BlockedLoop(self._parts.slots, release, self._parts.outcome_writer, self._worker, self._manager)

    def _make_heartbeat(self) -> Heartbeat:
        return Heartbeat(
            self._manager.connector,
            self.worker_id,
            self._settings.update_heartbeat_interval,
            self._settings.terms,
            self._parts.pulse,
            self._make_teller(),
            self._worker.logger,
            on_new_id=self._set_worker_id_threadsafe,
            on_first_beat=self._begin_threadsafe,
        )

    def _make_work_report(self) -> WorkReport:
        return WorkReport(
            self._parts.board,
            self._parts.slots,
            self._parts.outcome_writer,
            self._parts.fetch_loop,
            self._parts.paused,
            self._loop_beat,
        )

    def _make_observed(self) -> ObservedWorker:
        settings = self._settings
        observed = ObservedWorker(
            name=settings.name,
            queues=settings.queues,
            concurrency=settings.concurrency,
            app_hooks=self._worker.app.job_manager.hooks,
            report=self._work_report.make,
        )
        self._parts.fetch_loop.fetcher.on_fetch = observed.fetched
        self._parts.rescuer.on_rescue = observed.rescued
        self._parts.outcome_writer.on_settle = observed.settled
        return observed

    def _make_teller(self) -> Teller:
        tasks = sorted(self._worker.app.tasks)
        return Teller(
            identity_of(self._settings, tasks),
            tasks,
            work_report=self._work_report,
            on_answer=self._hear_threadsafe,
            statistics=self._parts.statistics,
            loop_beat=self._loop_beat,
            logger=self._worker.logger,
        )

    def _hear_threadsafe(self, answer: HeartbeatAnswer) -> None:
        with contextlib.suppress(RuntimeError):  # the worker, and its event loop, may have ended
            self._event_loop.call_soon_threadsafe(self._hear, answer)

    def _hear(self, answer: HeartbeatAnswer) -> None:
        self._parts.pause_keeper.learn(answer.pauses)
        self._parts.rescuer.duty.learn(is_watcher=answer.is_watcher)

    def _begin_threadsafe(self) -> None:
        with contextlib.suppress(RuntimeError):  # the worker, and its event loop, may have ended
            self._event_loop.call_soon_threadsafe(self._may_begin.set)

    def _set_worker_id_threadsafe(self, worker_id: int) -> None:
        self._event_loop.call_soon_threadsafe(self._set_worker_id, worker_id)

    def _set_worker_id(self, worker_id: int) -> None:
        self._worker.worker_id = self._parts.board.worker_id = worker_id
        self._parts.slots.release_waiting()  # the others have them already
        self._parts.board.post_room(is_upcoming=True)

    def _services(self) -> dict[str, Service]:
        services: dict[str, Service] = {"outcome_writer": self._parts.outcome_writer.run}
        aborts = AbortPoller(self._manager, self._settings.abort_job_polling_interval, self._parts.slots)
        services["poll_jobs_to_abort"] = aborts.run
        if self._settings.listen_notify:
            listener = Listener(
                self._manager,
                self._settings.queues,
                self._parts.fetch_loop,
                self._parts.slots,
                aborts,
                self._parts.pause_keeper,
                self._running_services.backoffs["listener"],
            )
            services["listener"] = listener.run
        else:
            self._log(logging.INFO, "listen_notify_disabled", "Not listening for notifications")
        services["deferrer"] = self._deferrer.run
        services["rescuer"] = self._parts.rescuer.run
        services["limits"] = self._limit_definer.run
        services["pauses"] = self._parts.pause_keeper.run
        services["report_writer"] = self._parts.report_writer.run
        services["bulk_work"] = BulkWork(self._manager, self._parts.rescuer.duty, self._worker.logger).run
        return services

    def _log(self, level: int, action: str, message: str, *arguments: Any) -> None:
        extra = {"action": action, "worker": self._worker.log_context()}
        with contextlib.suppress(BaseException):  # a log handler that raises must not cut jobs short
            self._worker.logger.log(level, message, *arguments, extra=extra)


def _shown(ids: list[int]) -> str:
    """Return the first ids of a list as text."""
    return ", ".join(map(str, ids[:10])) + (", ..." if len(ids) > 10 else "")


def _jobs_are(number: int) -> str:
    return "1 job is" if number == 1 else f"{number} jobs are"
