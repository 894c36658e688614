"""The threads in which a worker runs sync tasks."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import inspect
import subprocess
import sys
import threading
from typing import Any

import pytest

from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.worker.run import job_run, threads
from procrastinate.worker.run.threads import TaskThreads, _Answers, _Call, _DaemonThreads
from tests.worker.running import Queue, Workers, until

_EXIT_WITH_A_BUSY_THREAD = """
import threading
from procrastinate.worker.run.threads import _Call, _DaemonThreads
begun = threading.Event()
_DaemonThreads(None).submit(_Call(None), lambda: (begun.set(), threading.Event().wait()))
begun.wait()
"""


def test_a_busy_task_thread_does_not_keep_the_process_from_its_exit() -> None:
    subprocess.run([sys.executable, "-c", _EXIT_WITH_A_BUSY_THREAD], check=True, timeout=30)


async def test_a_thread_is_used_again() -> None:
    threads = TaskThreads(on_returned=lambda: None)
    try:
        names = {await threads.run(lambda: threading.current_thread().name, lambda _: None) for _ in range(20)}
    finally:
        threads.close()
    assert len(names) == 1


async def test_a_call_that_no_thread_could_be_started_for_is_not_made_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    threads = _DaemonThreads(_Answers())
    made: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            threads.submit(_Call(answer), lambda: made.append("refused"))
    started = _Call(answer)
    threads.submit(started, lambda: made.append("started"))
    started.as_future().result(timeout=30)
    threads.close()
    assert made == ["started"]


class Ends:
    """A call that blocks until it is told to return, and what becomes of its result."""

    def __init__(self) -> None:
        self.begun, self.may_return, self.discarded = threading.Event(), threading.Event(), threading.Event()
        self.in_thread: list[bool] = []
        self.is_left: list[bool] = []
        self._loop_thread = threading.get_ident()

    def call(self) -> int:
        self.begun.set()
        assert self.may_return.wait(30)
        return 1

    def discard(self, result: int) -> None:
        self.in_thread.append(threading.get_ident() != self._loop_thread)
        self.discarded.set()

    def note_left(self) -> None:
        self.is_left.append(True)


async def test_the_late_result_of_a_cancelled_call_is_discarded_in_its_thread() -> None:
    returned = asyncio.Event()
    threads, ends = TaskThreads(on_returned=returned.set), Ends()
    running = asyncio.create_task(threads.run(ends.call, ends.discard, ends.note_left))
    await asyncio.to_thread(ends.begun.wait, 30)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (threads.left, ends.is_left, ends.discarded.is_set()) == (1, [True], False)
    ends.may_return.set()
    await asyncio.wait_for(returned.wait(), 30)
    threads.close()
    assert (threads.left, ends.in_thread) == (0, [True])


async def test_a_cancelled_call_that_has_just_returned_is_discarded_too() -> None:
    """Its answer is on the way to the event loop."""
    returned = asyncio.Event()
    threads, ends = TaskThreads(on_returned=returned.set), Ends()
    ends.may_return.set()
    running = asyncio.create_task(threads.run(ends.call, ends.discard, ends.note_left))
    await asyncio.sleep(0)
    [call] = threads.all_calls()
    call.result(timeout=30)  # blocks the loop, which cannot take the answer before
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await asyncio.wait_for(returned.wait(), 30)
    threads.close()
    assert (threads.left, len(ends.in_thread)) == (0, 1)


async def test_a_call_that_is_cancelled_before_a_thread_begins_it_is_never_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = threading.Event()

    def wait(self: Any, call: Any) -> Any:
        assert taken.wait(30)
        return make(self, call)

    make = _Call.make
    monkeypatch.setattr(_Call, "make", wait)
    threads, ends = TaskThreads(on_returned=lambda: None), Ends()
    running = asyncio.create_task(threads.run(ends.call, ends.discard, ends.note_left))
    await asyncio.sleep(0)
    [call] = threads.all_calls()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    taken.set()
    assert await threads.run(lambda: "next", lambda _: None) == "next"
    threads.close()
    assert (threads.left, ends.is_left, ends.begun.is_set(), call.done()) == (0, [], False, True)


async def test_a_thread_serves_on_after_a_discard_that_raises() -> None:
    """A log handler of the program may fail in it."""

    def fail(result: int) -> None:
        raise OSError("the log is closed")

    returned = asyncio.Event()
    threads, ends = TaskThreads(on_returned=returned.set), Ends()
    running = asyncio.create_task(threads.run(ends.call, fail, ends.note_left))
    await asyncio.to_thread(ends.begun.wait, 30)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    ends.may_return.set()
    await asyncio.wait_for(returned.wait(), 30)
    async with asyncio.timeout(30):
        assert await threads.run(lambda: "next", lambda _: None) == "next"
    threads.close()
    assert threads.left == 0


async def test_a_thread_serves_on_after_the_loop_of_its_call_is_closed() -> None:
    ends = Ends()

    async def begin() -> TaskThreads:
        threads = TaskThreads(on_returned=lambda: None)
        waiting = asyncio.create_task(threads.run(ends.call, ends.discard))
        await asyncio.to_thread(ends.begun.wait, 30)
        waiting.cancel()
        return threads

    threads = await asyncio.to_thread(asyncio.run, begin())
    ends.may_return.set()
    assert await asyncio.to_thread(ends.discarded.wait, 30)
    threads.close()


class TimedOut(BaseException):
    """The exception of a time limit that raises in the thread of a job, as those of some libraries do."""


def raise_in(thread: int) -> None:
    """Raise an exception in a thread as soon as it runs code of Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimedOut))


async def test_a_call_survives_an_exception_that_comes_late_in_an_idle_thread() -> None:
    threads = TaskThreads(on_returned=lambda: None)
    async with asyncio.timeout(30):
        thread = await threads.run(threading.get_ident, lambda _: None)
        await until(lambda: is_idle(thread))
        raise_in(thread)
        answers = [await threads.run(threading.get_ident, lambda _: None) for _ in range(3)]
    threads.close()
    assert answers == [thread] * 3


def is_idle(thread: int) -> bool:
    """Return whether a thread for tasks waits for a call."""
    frame = sys._current_frames()[thread]
    lines, first = inspect.getsourcelines(_DaemonThreads._serve)
    return frame.f_code is _DaemonThreads._serve.__code__ and "get()" in lines[frame.f_lineno - first]


async def test_an_answer_survives_an_exception_that_comes_while_it_is_handed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deliver, tries = _Answers.deliver, [0]

    def interrupted(answers: _Answers, call: Any) -> None:
        tries[0] += 1
        if tries[0] == 1:
            raise_in(threading.get_ident())
        deliver(answers, call)

    monkeypatch.setattr(_Answers, "deliver", interrupted)
    threads = TaskThreads(on_returned=lambda: None)
    async with asyncio.timeout(30):
        assert [await threads.run(lambda: "answer", lambda _: None) for _ in range(2)] == ["answer"] * 2
    threads.close()
    assert tries == [3]


async def test_calls_that_end_together_all_get_their_answers() -> None:
    threads = TaskThreads(on_returned=lambda: None)
    answers = await asyncio.gather(
        *[threads.run(functools.partial(int, number), lambda _: None) for _ in range(50) for number in range(20)]
    )
    threads.close()
    assert answers == [*range(20)] * 50


async def test_an_exception_in_a_thread_reaches_the_code_that_waits() -> None:
    threads = TaskThreads(on_returned=lambda: None)
    for error in (KeyError("a"), StopIteration("b")):
        with pytest.raises((KeyError, RuntimeError), match=r"a|b"):
            await threads.run(functools.partial(raises, error), lambda _: None)
    threads.close()


def raises(error: BaseException) -> None:
    raise error


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Refuse threads for tasks until the event is set."""
    start, allowed = threading.Thread.start, threading.Event()

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("procrastinate-task") and not allowed.is_set():
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(threads, "_NO_THREAD_PAUSE", 0.01)
    monkeypatch.setattr(job_run, "_NO_THREAD_DELAY", 0.2)
    return allowed


async def swallow(call: Any, context: Any, worker: Any) -> None:
    """Catch what a job raises, as middleware of the program may do."""
    with contextlib.suppress(Exception):
        await call()


@pytest.mark.parametrize("options", [{}, {"worker_middleware": [swallow]}], ids=["plain", "middleware"])
async def test_a_job_without_a_thread_is_released_and_runs_once_a_thread_can_be_started(
    app: App, workers: Workers, queue: Queue, no_threads: threading.Event, options: dict[str, Any]
) -> None:
    ran: list[int] = []
    job_id = await app.task(name="sync")(lambda: ran.append(1)).defer_async()
    workers.start(**options)
    await until(lambda: queue.row(job_id)["scheduled_at"] is not None)
    assert queue.row(job_id)["attempts"] == 0
    no_threads.set()
    await queue.succeeded(job_id)
    assert (ran, queue.row(job_id)["attempts"]) == ([1], 1)


async def test_a_job_whose_timeout_passes_while_it_waits_for_a_thread_is_released(
    app: App, workers: Workers, queue: Queue, no_threads: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_NO_THREAD_PAUSE", 60)
    job_id = await app.task(name="sync", timeout=0.1)(lambda: None).defer_async()
    workers.start()
    await until(lambda: queue.row(job_id)["scheduled_at"] is not None)
    no_threads.set()
    await queue.succeeded(job_id)


async def test_a_worker_stops_while_no_thread_can_be_started(
    app: App, workers: Workers, queue: Queue, no_threads: threading.Event
) -> None:
    job_id = await app.task(name="sync")(lambda: None).defer_async()
    running = workers.start()
    await until(lambda: queue.events(job_id)[-1] == "started")
    await running.stopped()
    assert queue.status(job_id) is Status.TODO
