"""Jobs of a worker: running jobs, each in a slot, and prefetched jobs that wait for a slot."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

from procrastinate import _long_waits
from procrastinate._quoting import quoted
from procrastinate.core import ReportKind
from procrastinate.job_context import AbortReason
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.fetch.prefetch import Prefetch
from procrastinate.worker.fetch.release import Releaser
from procrastinate.worker.processes.exits import ends_task
from procrastinate.worker.run.claims import Claims
from procrastinate.worker.run.early_release import EarlyRelease
from procrastinate.worker.run.job_run import JobRun
from procrastinate.worker.run.outcome import hands_over
from procrastinate.worker.run.outcome_writer import OutcomeWriter
from procrastinate.worker.run.run_log import log_job
from procrastinate.worker.run.run_outcomes import RunOutcomes
from procrastinate.worker.run.run_statistics import RunStatistics
from procrastinate.worker.run.step_gate import StepGate
from procrastinate.worker.run.threads import TaskThreads

if TYPE_CHECKING:
    from procrastinate.worker.worker import Worker

_MOST_NAMED = 10
"""Maximum number of jobs that a log line names."""


class JobWatch(Protocol):
    """Watches the event loop while jobs run."""

    def begin(self) -> None:
        """Watch until no job is left."""


@dataclasses.dataclass
class _Starts:
    """The jobs that a worker has started, and what follows from a start."""

    most: int | None
    """Start no more jobs than that (``max_jobs``)."""
    watch: JobWatch
    on_last: Callable[[], None]
    gate: StepGate
    count: int = 0


class Slots:
    """Start jobs up to the worker's concurrency, and hand their outcomes to the outcome writer.

    Each job starts in the context variables of the worker. The end of a job lets the next one start, and lets the
    worker fetch and release jobs. All of that runs in the worker's context again and sees no variable that the job has
    set.

    Parameters
    ----------
    board:
        Where they post that there is room for a fetch.
    on_last:
        Called after the start of the last job that the worker may start (``max_jobs``).
    watch:
        Learns of each start of a job.
    """

    def __init__(
        self,
        worker: Worker,
        manager: JobManager,
        board: Noticeboard,
        outcome_writer: OutcomeWriter,
        releaser: Releaser,
        statistics: RunStatistics,
        on_last: Callable[[], None],
        watch: JobWatch,
    ) -> None:
        self._worker = worker
        self._manager = manager
        self._board = board
        self._starts = _Starts(worker.settings.max_jobs, watch, on_last, StepGate(manager))
        self._threads = TaskThreads(self._fill, worker.settings.concurrency, worker.logger)
        self._prefetch = Prefetch(worker.settings.concurrency)
        self._running: dict[JobRun, asyncio.Task[None]] = {}
        self._unbegun: dict[JobRun, bool] = {}
        """Runs that have executed no line yet. The event loop, or the thread that watches it, removes each one."""
        self._claims = Claims(manager, outcome_writer, self._running)
        self._outcomes = RunOutcomes(worker, outcome_writer, releaser, statistics, self._claims)
        self._release = EarlyRelease(self._prefetch, releaser, worker.own_context)
        self._stopping = False

    def __len__(self) -> int:
        return len(self._running)

    @property
    def is_empty(self) -> bool:
        """True if no job runs or waits here."""
        return not self._running and not self._prefetch

    @property
    def held_ids(self) -> set[int]:
        """The ids of fetched jobs that have not ended. Callable from any thread.

        The sets are read in the order in which a job moves through them, so a job that moves at that moment is not
        missed.
        """
        ids = self._prefetch.ids
        ids.update(run.job.id for run in list(self._running) if run.job.id is not None)
        return ids | self._release.ids | self._outcomes.left_ids

    # Room

    def room(self) -> int:
        """Return how many jobs the worker can fetch now.

        The result is 0 during a release: jobs behind the released ones would start before them.
        """
        if self._release.is_under_way:
            return 0
        room = max(self._free() - len(self._prefetch), 0)
        if self._worker.settings.prefetch and not self._prefetch.suspects:
            room += self._prefetch.room()
        if self._starts.most is None:
            return room
        return min(room, self._starts.most - self._starts.count - len(self._prefetch))

    def _free(self) -> int:
        """Return the number of free slots. A thread that goes on after its job's timeout keeps its slot."""
        return self._worker.settings.concurrency - len(self._running) - self._threads.left

    def begin_fetch(self) -> None:
        """Do nothing: no other worker takes these slots, so a fetch needs no reservation."""

    def end_fetch(self, *, wants_more: bool) -> None:
        """Do nothing: no other worker takes these slots, so none is left to one."""

    def wait_for_room(self, *, is_wanted: bool) -> None:
        """Do nothing: the end of a job of this worker makes room, and no other worker needs to know."""

    # From the fetch to the outcome

    def take(self, jobs: list[Job]) -> None:
        """Start fetched jobs, and keep the jobs without a free slot."""
        jobs = self._claims.new_ones(jobs)
        if not jobs:
            return
        self._prefetch.keep(jobs)
        if self._release.is_under_way:
            self.release_waiting()
        else:
            self._start_waiting()

    async def tell_apart(self, jobs: list[Job]) -> None:
        """Note which fetched jobs only look like a job that this worker has."""
        await self._claims.tell_apart(jobs)

    def release_unstarted(self, jobs: list[Job]) -> None:
        """Release fetched jobs and start none of them."""
        self._release.release(self._claims.new_ones(jobs))

    def _start_waiting(self) -> None:
        free = self._free()
        while free > 0 and not self._stopping:
            job = self._prefetch.next()
            if job is None:
                break
            self._start(job)
            free = self._free()
        if not self._prefetch:
            return
        if self._stopping or self._prefetch.suspects or free > 0:
            self.release_waiting()
        elif self._release.timer is None:
            self._release.watch()

    def _start(self, job: Job) -> None:
        self._starts.count += 1
        try:
            self._starts.watch.begin()
            self._start_run(JobRun(job, self._worker, self._threads, self._manager, self._starts.gate))
        except BaseException as error:
            self._outcomes.retry_unstarted(job, error)
        if self._starts.count == self._starts.most:
            self._starts.on_last()

    def _start_run(self, run: JobRun) -> None:
        if run.job.attempts > 0:
            self._prefetch.suspects += 1
        self._unbegun[run] = True
        name = quoted(f"process job {run.job.task_name}[{run.job.id}]")  # any logger may show it, as taskName
        execution = self._execute(run)
        try:
            self._running[run] = self._worker.own_context.copy().run(asyncio.create_task, execution, name=name)
        except BaseException:
            execution.close()
            if run.job.attempts > 0:
                self._prefetch.suspects -= 1
            if self._unbegun.pop(run, False):  # otherwise the other thread has released it
                raise

    async def _execute(self, run: JobRun) -> None:
        started = time.monotonic()
        try:
            if self._unbegun.pop(run, False):
                # As in the run, no variable holds the outcome with its exception.
                self._outcomes.take(run, await run.execute(asyncio.current_task()), time.monotonic() - started)
        except BaseException as error:
            if ends_task(error):
                raise
            # Whatever the program's code raises, the worker must not end.
            self._outcomes.fail(run, error, time.monotonic() - started)
        finally:
            del self._running[run]
            self._claims.forget(run)
            if run.job.attempts > 0:
                self._prefetch.suspects -= 1
            self._prefetch.ended(time.monotonic() - started)
            self._fill(run.job)

    def _fill(self, ended: Job | None = None) -> None:
        """Use a free slot. Runs at the end of a job, and after a thread's late return."""
        self._worker.own_context.copy().run(self._use_room, ended)

    def _use_room(self, ended: Job | None = None) -> None:
        self._start_waiting()
        if self._board.tells_of_room or self.room() <= 0:
            return
        if ended is not None and hands_over(ended):
            self._board.wake()  # the next job is ready once the outcome is recorded
        else:
            self._board.post_room()

    # Jobs that wait for a slot

    def release_waiting(self) -> None:
        """Release the prefetched jobs."""
        self._release.release_waiting()

    def release_queues(self, queues: Collection[str]) -> None:
        """Release the prefetched jobs of these queues."""
        self._release.release_queues(queues)

    # What the worker tells. Callable from any thread

    @property
    def running_ids(self) -> list[int]:
        """The ids of the running jobs."""
        return [run.job.id for run in list(self._running) if run.job.id is not None]

    @property
    def fetched_ahead(self) -> int:
        """The number of prefetched jobs."""
        return len(self._prefetch)

    @property
    def lost_threads(self) -> int:
        """The number of threads that go on after the end of their job."""
        return self._threads.left

    # In another thread, while the event loop is blocked

    def running_in_thread(self) -> list[Job]:
        """Return the running jobs."""
        return [run.job for run in list(self._running)]

    def current_in_thread(self) -> Job | None:
        """Return the job that has the event loop now, or ``None`` if asyncio does not know it."""
        running = list(self._running.items())
        current = asyncio.current_task(running[0][1].get_loop()) if running else None
        return next((run.job for run, task in running if task is current), None)

    def begin_release_in_thread(self) -> list[Job]:
        """Take the unstarted jobs, to release them.

        They are prefetched, or have a slot but have executed no line. The loop may resume at any time. It does not
        start them, and finds no room until :meth:`end_release_in_thread`. They count as held until then.
        """
        waiting = self._prefetch.begin_release()
        unbegun = self._take_unbegun()
        self.extend_release_in_thread(job.id for job in unbegun if job.id is not None)
        return waiting + unbegun

    def extend_release_in_thread(self, job_ids: Iterable[int]) -> None:
        """Count these jobs as held until the end of the release."""
        self._prefetch.extend_release(job_ids)

    def end_release_in_thread(self, all_wait: bool) -> None:
        """Let the loop fetch again when it resumes.

        Parameters
        ----------
        all_wait:
            True if all jobs of the release certainly wait again.
        """
        self._release.end_in_thread(all_wait)

    def _take_unbegun(self) -> list[Job]:
        jobs: list[Job] = []
        with contextlib.suppress(KeyError):  # the set is empty
            while True:
                run, _ = self._unbegun.popitem()
                if not self._claims.is_void(run):
                    jobs.append(run.job)
        return jobs

    # Abort and stop

    def abort(self, job_id: int) -> None:
        """Ask a job to stop on a user's request. A job that has not started does not start.

        The same job may be here twice, if other workers rescued it and this worker fetched it again.
        """
        for run in self._running:
            if run.job.id == job_id:
                run.abort(AbortReason.USER_REQUEST)
        waiting = self._prefetch.take(job_id)
        if waiting is not None:
            self._outcomes.abort_unstarted(waiting)

    def report_stack(self, job_id: int) -> None:
        """Let the worker write where a running job is. Requests before the next write share it."""
        for run in self._running:
            if run.job.id == job_id:
                self._worker.reports.put(run.job, ReportKind.STACK, run.describe_stack)

    def stop(self) -> None:
        """Start no more jobs."""
        self._stopping = True
        self.release_waiting()

    async def drain(self, patience: float | None) -> None:
        """Wait ``patience`` seconds for the running jobs, then ask them to stop and wait for their end."""
        for run in self._running:
            log_job(self._worker, "ending_job", "Waiting for job %s to end", run.job)
        if self._running:
            with _long_waits.told(self._tell_running("to end")):
                await asyncio.wait(self._running.values(), timeout=patience)
        for run in self._running:
            run.abort(AbortReason.SHUTDOWN)
        if self._running:
            with _long_waits.told(self._tell_running("to end, which it asked to stop")):
                await asyncio.wait(self._running.values())

    def _tell_running(self, what: str) -> Callable[[float], None]:
        """Return a function that logs the jobs for which the worker waits."""

        def tell(waited: float) -> None:
            calls = [run.job.call_string for run in self._running]
            jobs = ", ".join(calls[:_MOST_NAMED]) + (", ..." if len(calls) > _MOST_NAMED else "")
            message = "The worker waits for %d jobs %s (%.0f s): %s"
            extra = {"action": "waiting_for_jobs", "worker": self._worker.log_context()}
            self._worker.logger.info(message, len(calls), what, waited, jobs, extra=extra)

        return tell

    def cut(self) -> None:
        """End the running jobs now, as far as possible."""
        self._threads.leave_all()
        for run in self._running:
            run.cut()

    async def ended(self) -> None:
        """Wait until no job runs, except in a thread."""
        if self._running:
            await asyncio.wait(self._running.values())

    def close(self) -> list[Future[Any]]:
        """Stop waiting, and return the futures of calls and tasks that still run."""
        self._release.close()
        self._threads.close()
        self._threads.leave_all()
        for run, task in self._running.items():
            run.leave()
            task.cancel()
        return [*self._threads.given_up(), *map(_as_future, self._running.values())]

    def calls_in_threads(self) -> list[Future[Any]]:
        """Return the calls that run in threads. Safe in another thread once the event loop has ended."""
        return self._threads.all_calls()


def _as_future(task: asyncio.Task[Any]) -> Future[Any]:
    """Return a future for the task, for another thread to wait on."""
    future: Future[Any] = Future()
    task.add_done_callback(lambda _: future.set_result(None))
    return future
