"""A fetch whose answer waits for a blocked loop. The thread that releases its jobs and the loop act step by step."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from procrastinate import core, exceptions
from procrastinate.app import App
from procrastinate.job_context import JobContext
from procrastinate.manager import JobManager
from procrastinate.testing import InMemoryConnector
from procrastinate.worker import Worker
from procrastinate.worker.fetch.open_fetch import OpenFetch
from procrastinate.worker.fetch.prefetch import Prefetch
from procrastinate.worker.services.limit_definer import LimitDefiner
from procrastinate.worker.services.thread_release import ThreadRelease
from procrastinate.worker.worker_run import WorkerRun
from tests.unit.recording import make_job

STEPS = ["begin", "list", "listed", "give back", "given back", "end"]
"""What the thread does, in order. Other things happen just before each of these, or after all of them."""
LAST = len(STEPS)
MANY_TURNS = 60
"""Turns of the event loop in which all that can happen in memory has happened."""


async def settle() -> None:
    """Let the event loop do all that it can do."""
    for _ in range(MANY_TURNS):
        await asyncio.sleep(0)


class SteppedConnector(InMemoryConnector):
    """Stops the thread before each step, and a gated fetch before the server executes it and before its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.is_gated = False
        self.sent, self.execute, self.answer = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.fails_to_list = False
        self.on_step: Callable[[str], Any] | None = None

    def run(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        if self.on_step is None or asyncio._get_running_loop() is not None:
            return super().run(operation, *args, **kwargs)
        before, after = {"list_unknown_jobs": ("list", "listed"), "release_jobs": ("give back", "given back")}[
            operation.__name__
        ]
        self.step(before)
        if self.fails_to_list and before == "list":
            raise exceptions.ConnectorException
        result = super().run(operation, *args, **kwargs)
        self.step(after)
        return result

    def step(self, name: str) -> None:
        """Let others act, in the event loop, while the thread waits before this step."""
        assert self.on_step is not None
        asyncio.run_coroutine_threadsafe(self.on_step(name), self.loop).result(30)

    async def run_async(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation is not core.fetch_jobs or not self.is_gated:
            return await super().run_async(operation, *args, **kwargs)
        self.is_gated = False
        self.sent.set()
        await self.execute.wait()
        result = await super().run_async(operation, *args, **kwargs)
        await self.answer.wait()
        return result


class Scene:
    """A worker of which one job runs, and whose fetch of three others is under way; and another worker."""

    def __init__(self) -> None:
        self.connector = SteppedConnector()
        self.app = App(connector=self.connector)
        self.manager = JobManager(self.connector)
        self.ran: Counter[int] = Counter()
        self.runs: list[tuple[int, int]] = []
        """Jobs with the attempt that has run."""
        self.taken: Counter[int] = Counter()
        self.hold = asyncio.Event()
        self.long = self.app.task(name="long")(self._long)
        self.quick = self.app.task(name="quick", pass_context=True)(self._quick)
        self.tasks: list[asyncio.Task[Any]] = []
        self.ids: list[int] = []
        self.other_takes = False
        self.other = self.connector.run(core.register_worker)

    async def start(self) -> None:
        worker = Worker(self.app, concurrency=4, prefetch=False)
        worker.worker_id = self.connector.run(core.register_worker)
        limit_definer = LimitDefiner(self.manager, self.app, worker.logger)
        self.session = WorkerRun(worker, self.manager, limit_definer)
        self.running = await self.long.defer_async()
        loop = self.session._parts.fetch_loop
        self.tasks = [asyncio.create_task(loop.run()), asyncio.create_task(self.session._parts.outcome_writer.run())]
        await settle()
        self.connector.is_gated = True
        self.ids = await self.quick.batch_defer_async(*[{}] * 3)
        self.session._parts.board.post_room()
        await self.connector.sent.wait()

    async def stop(self) -> None:
        self.hold.set()
        self.session.stop()
        self.connector.execute.set()
        self.connector.answer.set()
        await settle()
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)

    async def _long(self) -> None:
        await self.hold.wait()

    async def _quick(self, context: JobContext) -> None:
        assert context.job.id is not None
        self.ran[context.job.id] += 1
        self.runs.append((context.job.id, context.job.attempts))

    def statuses(self) -> list[str]:
        return [self.connector.jobs[job_id]["status"] for job_id in self.ids]

    def attempts(self) -> set[int]:
        return {self.connector.jobs[job_id]["attempts"] for job_id in self.ids}

    def other_fetches(self) -> None:
        """The other worker takes all that is ready. It never ends its jobs."""
        if self.other_takes:
            self.connector.run(core.promote_jobs)
            fetched = self.connector.run(core.fetch_jobs, worker_id=self.other, limit=10)
            self.taken.update(job.id for job in fetched)

    async def release(self, acts: dict[str, list[Callable[[], Any]]]) -> int:
        """Release in a thread.

        Parameters
        ----------
        acts:
            What happens before each step of the thread.
        """

        async def on_step(name: str) -> None:
            for act in acts.get(name, []):
                act()
                await settle()
            self.other_fetches()

        self.connector.on_step = on_step
        release = self.session._make_blocked_loop()._release
        number = await asyncio.to_thread(self._release, release)
        self.connector.on_step = None
        return number

    def _release(self, release: ThreadRelease) -> int:
        self.connector.step("begin")
        number = release.release()
        self.connector.step("end")
        return number


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """The fetch has been sent, and the server has not executed it."""
    scene = Scene()
    await scene.start()
    yield scene
    await scene.stop()


def the_long_job_still_runs(scene: Scene) -> bool:
    return scene.connector.jobs[scene.running]["status"] == "doing" and len(scene.session._parts.slots) == 1


ORDERS = [(executed, read) for executed, read in itertools.product(range(LAST + 1), repeat=2) if executed <= read]


def acts_of(scene: Scene, executed: int, read: int, *others: tuple[int, Callable[[], Any]]) -> dict[str, list[Any]]:
    """Return what happens before each step."""
    acts: dict[str, list[Any]] = {}
    times = [(executed, scene.connector.execute.set), *others, (read, scene.connector.answer.set)]
    for when, act in sorted(times, key=lambda one: one[0]):
        acts.setdefault(STEPS[when] if when < LAST else "after", []).append(act)
    return acts


async def finish(scene: Scene, acts: dict[str, list[Any]]) -> None:
    """Do what comes after the release, and let the loop go on."""
    for act in acts.get("after", []):
        act()
        await settle()
        scene.other_fetches()
    scene.connector.execute.set()
    scene.connector.answer.set()
    for _ in range(5):
        await settle()
        scene.other_fetches()


@pytest.mark.parametrize(("executed", "read"), ORDERS)
async def test_each_job_of_an_unread_answer_runs_once_in_whichever_order_server_thread_and_loop_act(
    scene: Scene, executed: int, read: int
) -> None:
    acts = acts_of(scene, executed, read)
    await scene.release(acts)
    await finish(scene, acts)
    assert scene.ran == dict.fromkeys(scene.ids, 1)
    assert (scene.statuses(), scene.attempts()) == (["succeeded"] * 3, {1})
    assert the_long_job_still_runs(scene)


@pytest.mark.parametrize(("executed", "read"), ORDERS)
async def test_no_job_runs_in_two_workers_if_another_one_takes_each_released_job_at_once(
    scene: Scene, executed: int, read: int
) -> None:
    """The other worker may take them before the server executes the fetch, too. Then its answer is empty."""
    scene.other_takes = True
    acts = acts_of(scene, executed, read)
    await scene.release(acts)
    await finish(scene, acts)
    assert scene.ran + scene.taken == dict.fromkeys(scene.ids, 1)
    assert scene.statuses() == ["doing" if job_id in scene.taken else "succeeded" for job_id in scene.ids]
    assert the_long_job_still_runs(scene)


@pytest.mark.parametrize(
    ("executed", "taken_back", "read"),
    [(executed, when, read) for executed, read in ORDERS for when in range(executed, read + 1) if read > 0],
)
async def test_a_job_of_a_void_answer_that_was_taken_back_before_runs_once_in_its_next_attempt(
    scene: Scene, executed: int, taken_back: int, read: int
) -> None:
    scene.other_takes = True
    one = scene.ids[1]

    def take_back() -> None:
        if scene.connector.jobs[one]["worker_id"] == scene.session.worker_id:
            scene.connector.run(core.retry_job_by_id, one)

    acts = acts_of(scene, executed, read, (taken_back, take_back))
    await scene.release(acts)
    await finish(scene, acts)
    assert scene.ran[one] + scene.taken[one] == 1
    assert scene.connector.jobs[one]["status"] == ("doing" if scene.taken[one] else "succeeded")
    assert (one, 0) not in scene.runs
    assert the_long_job_still_runs(scene)


async def test_jobs_of_an_unread_answer_wait_again_while_the_loop_stands_still(scene: Scene) -> None:
    acts = {"begin": [scene.connector.execute.set]}
    assert await scene.release(acts) == 3
    assert (scene.statuses(), scene.attempts(), scene.ran) == (["todo"] * 3, {0}, {})


async def test_the_worker_finds_no_room_until_the_release_has_ended(scene: Scene) -> None:
    room: list[int] = []

    def look() -> None:
        room.append(scene.session._parts.slots.room())

    acts = {name: [look] for name in STEPS}
    await scene.release({**acts, "begin": [scene.connector.execute.set, look]})
    await settle()
    look()
    assert room == [3, 0, 0, 0, 0, 3, 3]


async def test_a_second_release_finds_what_the_server_had_not_executed_at_the_first(scene: Scene) -> None:
    """The loop does not go on in between: its part of the first release is still to come."""
    assert await scene.release({"given back": [scene.connector.execute.set]}) == 0
    scene.connector.execute.set()
    await settle()
    assert scene.statuses() == ["doing"] * 3
    assert await scene.release({}) == 3
    assert scene.statuses() == ["todo"] * 3
    scene.connector.answer.set()
    await settle()
    await settle()
    assert scene.ran == dict.fromkeys(scene.ids, 1)


async def test_the_worker_fetches_again_after_the_thread_could_not_list_the_jobs(scene: Scene) -> None:
    scene.connector.fails_to_list = True
    scene.connector.execute.set()
    await settle()
    assert await scene.release({}) == 0
    await finish(scene, {})
    assert scene.ran == dict.fromkeys(scene.ids, 1)
    assert scene.attempts() == {1}


async def test_a_fetch_that_fails_after_it_was_made_void_is_followed_by_another(scene: Scene) -> None:
    await scene.release({})
    scene.tasks[0].cancel()
    await settle()
    assert scene.session._parts.fetch_loop.fetcher.open_fetch is None


def test_an_answer_that_was_read_is_not_made_void() -> None:
    fetch = OpenFetch(1)
    assert fetch.read() is None
    assert not fetch.make_void()
    assert not fetch.take_over([1])


def test_a_void_answer_names_what_the_thread_has_taken_over() -> None:
    fetch = OpenFetch(1)
    assert fetch.make_void()
    assert fetch.take_over([1, 2])
    assert fetch.make_void()
    assert fetch.take_over([3])
    assert fetch.read() == {1, 2, 3}
    assert not fetch.take_over([4])


def test_a_job_on_its_way_into_a_slot_counts_as_held() -> None:
    prefetch = Prefetch(1)
    prefetch.keep([make_job(id=1), make_job(id=2)])
    prefetch.next()
    assert prefetch.ids == {1, 2}
    prefetch.next()
    assert prefetch.ids == {2}
    prefetch.next()
    assert prefetch.ids == set()


def test_the_end_of_one_release_does_not_end_the_next_one() -> None:
    prefetch = Prefetch(1)
    prefetch.begin_release()
    prefetch.keep([make_job(id=1)])
    prefetch.begin_release()
    prefetch.end_release()
    assert prefetch.is_leaving
    assert prefetch.ids == {1}
    prefetch.end_release()
    assert not prefetch.is_leaving
