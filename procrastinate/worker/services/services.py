"""What goes on beside the jobs: listen, defer periodic tasks, rescue, look for requests to abort."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterable

from procrastinate.core.channels import Notification
from procrastinate.core.rows import LateWorker, RescuedJob
from procrastinate.jobs import Status
from procrastinate.manager import JobManager
from procrastinate.worker.backoff import Backoff
from procrastinate.worker.processes.exits import ends_task
from procrastinate.worker.services.liveness_watch import Pulse, Watch

Service = Callable[[], Awaitable[None]]

_SHORTEST_ABORT_PAUSE = 0.1
"""Seconds between two looks for requests to abort, however many hints come."""


STEADY = 0.5
"""Seconds of listening after which a cut connection is no failure to connect: the next pause is a short one."""


async def supervise(name: str, service: Service, logger: logging.Logger, backoff: Backoff) -> None:
    """Run a service until it is done, starting it again, with growing pauses, whenever it fails.

    Parameters
    ----------
    backoff:
        Gives the pauses. The service may reset it where it knows that it has worked.
    """
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        try:
            await service()
        except BaseException as error:
            if ends_task(error) or isinstance(error, GeneratorExit):
                raise
            if loop.time() - started > 60:
                backoff.reset()
            wait = backoff.next_wait()
            with contextlib.suppress(BaseException):  # a log handler that raises must not end a service
                logger.warning(
                    "The %s failed, and starts again in %.1f s: %s",
                    name,
                    wait,
                    error,
                    extra={"action": "side_task_failed", "side_task": name},
                    exc_info=logger.isEnabledFor(logging.DEBUG),
                )
            await asyncio.sleep(wait)
        else:
            return


class Listener:
    """Tells the worker what the database notifies.

    Parameters
    ----------
    on_waiting:
        Called when jobs may be ready, with whether some have to be promoted first.
    on_abort:
        Called with the id of a job whose abort may have been requested.
    on_listening:
        Called whenever notifications are heard from then on.
    on_steady:
        Called when listening ends that has lasted for :data:`STEADY` seconds. A connection that is cut at once does not
        count: something on the way does not let it listen.
    """

    def __init__(
        self,
        manager: JobManager,
        queues: Iterable[str] | None,
        on_waiting: Callable[[bool], None],
        on_abort: Callable[[int], None],
        on_listening: Callable[[], None],
        on_steady: Callable[[], None],
    ) -> None:
        self._manager = manager
        self._queues = queues
        self._on_steady = on_steady
        self._on_waiting = on_waiting
        self._on_abort = on_abort
        self._on_listening = on_listening

    async def run(self) -> None:
        """Listen until cancelled. What came before listening began is looked for once it has."""
        loop = asyncio.get_running_loop()
        since: float | None = None

        def listening() -> None:
            nonlocal since
            since = loop.time()
            self._on_listening()

        try:
            await self._manager.listen_for_jobs(
                on_notification=self._handle, queues=self._queues, on_listening=listening
            )
        finally:
            if since is not None and loop.time() - since >= STEADY:
                self._on_steady()

    async def _handle(self, *, channel: str, notification: Notification) -> None:
        if notification["type"] == "abort_job_requested":
            self._on_abort(notification["job_id"])
        else:
            self._on_waiting(notification.get("upcoming", True))


class AbortPoller:
    """Asks the table which running jobs are to be aborted: at each interval, and soon after a hint.

    Every role that can log in may send notifications, so a notification is a hint and aborts nothing itself.

    Parameters
    ----------
    interval:
        Seconds between two looks without a hint.
    running_ids:
        Gives the ids of the jobs that this worker holds.
    on_abort:
        Called with the id of a held job whose abort the table requests.
    """

    def __init__(
        self,
        manager: JobManager,
        interval: float,
        running_ids: Callable[[], Collection[int]],
        on_abort: Callable[[int], None],
    ) -> None:
        self._manager = manager
        self._interval = interval
        self._running_ids = running_ids
        self._on_abort = on_abort
        self._hinted = asyncio.Event()

    def hint(self, job_id: int) -> None:
        """Look soon, if this worker holds the job. Hints that come before the look share it."""
        if job_id in self._running_ids():
            self._hinted.set()

    async def run(self) -> None:
        """Ask until cancelled; not at all while no job runs."""
        shortest = min(_SHORTEST_ABORT_PAUSE, self._interval)
        while True:
            self._hinted.clear()
            await self._look()
            await asyncio.sleep(shortest)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hinted.wait(), self._interval - shortest)

    async def _look(self) -> None:
        running = set(self._running_ids())
        if running:
            for job_id in running.intersection(await self._manager.list_jobs_to_abort_async()):
                self._on_abort(job_id)


class Rescuer:
    """Looks after what others left behind: workers that died, their jobs, jobs parked behind nobody.

    Every worker does it, none is special; operations pass over what another is busy with.

    Parameters
    ----------
    interval, stalled_worker_timeout:
        Seconds, of this worker. Workers that do not say theirs are judged by these.
    worker_id:
        The id of this worker, which does not judge itself. It may change.
    pulse:
        When the database has answered, this worker's heartbeats included.
    on_look:
        Called after each look.
    """

    def __init__(
        self,
        manager: JobManager,
        *,
        interval: float,
        stalled_worker_timeout: float,
        worker_id: Callable[[], int],
        pulse: Pulse,
        max_rescues: int,
        on_look: Callable[[], None],
        logger: logging.Logger,
    ) -> None:
        self._manager = manager
        self._interval = interval
        self._stalled_worker_timeout = stalled_worker_timeout
        self._worker_id = worker_id
        self._pulse = pulse
        self._watch = Watch(interval)
        self._max_rescues = max_rescues
        self._on_look = on_look
        self._logger = logger
        self._swept_to: str | None = None
        self._is_rescuing = False
        self.has_looked = asyncio.Event()

    @property
    def has_jobs_to_come(self) -> bool:
        """Whether a worker that holds jobs looks dead, and is watched, or was removed and its jobs are not back yet."""
        return self._is_rescuing or self._watch.has_jobs_to_come

    async def run(self) -> None:
        """Once at the start, then at each interval, until cancelled. More often while a worker looks dead."""
        while True:
            try:
                await self._look_once()
            except Exception:
                self._watch = Watch(self._interval)  # what was seen before may have changed unseen
                raise
            finally:
                self._is_rescuing = False
                self.has_looked.set()
                self._on_look()
            await asyncio.sleep(self._watch.pause * random.uniform(0.8, 1.2))

    async def _look_once(self) -> None:
        """Prune, rescue, sweep."""
        await self._remove_dead_workers()
        await self._rescue_jobs()
        sweep = await self._manager.sweep_parked_jobs(start=self._swept_to)
        self._swept_to = sweep.reached

    async def _remove_dead_workers(self) -> None:
        dead = await self._find_dead_workers()
        if not dead:
            return
        self._is_rescuing = True
        removed = await self._manager.remove_dead_workers(dead)
        self._watch.forget(removed)
        if removed:
            self._logger.warning(
                "Workers that had not been heard of for too long were removed: %s",
                ", ".join(map(str, removed)),
                extra={"action": "prune_stalled_workers", "workers": removed},
            )

    async def _find_dead_workers(self) -> list[LateWorker]:
        asked = self._pulse.clock()
        late = await self._manager.list_late_workers(
            worker_id=self._worker_id(),
            heartbeat_interval=self._interval,
            stalled_timeout=self._stalled_worker_timeout,
        )
        self._pulse.answered(asked)
        pause = self._pulse.take_longest_pause()
        dead = self._watch.look(late, asked=asked, answered=self._pulse.clock(), pause=pause)
        for seen in self._watch.new_with_jobs:
            self._logger.info(
                "Worker %d holds jobs and has not been heard of for %.0f s. They are taken back once that is %.0f s",
                seen.id,
                seen.age,
                seen.stalled_timeout,
                extra={"action": "worker_watched", "late_worker": seen.id},
            )
        return dead

    async def _rescue_jobs(self) -> None:
        rescued = await self._manager.rescue_jobs(max_rescues=self._max_rescues)
        self.tell(rescued, "was left behind by a worker that is gone")

    def tell(self, rescued: Iterable[RescuedJob], why: str) -> None:
        """Log that jobs were taken back, and, as errors, those that have failed of it."""
        for job in rescued:
            level, action, end = logging.WARNING, "job_rescued", ""
            if job.status is Status.FAILED:
                level, action = logging.ERROR, "job_given_up"
                end = f", for it had been taken back {self._max_rescues} times before (max_rescues)"
            self._logger.log(
                level,
                "Job %s[%s] %s: it is %s now%s",
                job.task_name,
                job.id,
                why,
                job.status.value,
                end,
                extra={"action": action, "job_id": job.id, "status": job.status.value},
            )
