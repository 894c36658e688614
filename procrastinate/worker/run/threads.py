"""Threads in which a worker runs sync tasks."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import enum
import functools
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar

from procrastinate import _long_waits
from procrastinate._text.logs import get_logger

T = TypeVar("T")

logger = get_logger(__name__)

_NO_THREAD_PAUSE = 1.0
"""Seconds until the next try after the system has refused a thread."""
_MOST_TRIES = 5


class NoThread(BaseException):
    """The system refused a thread, and the call never started. Middleware that catches ``Exception`` lets it pass."""


class SyncCalls(Protocol):
    """Interface for running sync tasks."""

    async def run(
        self, call: Callable[[], T], discard: Callable[[T], None], on_left: Callable[[], None] | None = None
    ) -> T:
        """See :meth:`TaskThreads.run`."""
        ...


class _Call(Generic[T]):
    """A call for a thread. A thread makes it, unless the code that waits for it cancels it before.

    A call through a future of :mod:`concurrent.futures`, wrapped for the event loop, takes 31 µs of processor time. A
    call through this takes 16 µs.

    Parameters
    ----------
    answer:
        Gets the result in the event loop.
    """

    __slots__ = ("_answer", "_error", "_mutex", "_on_late", "_state", "_value", "_waiting")

    def __init__(self, answer: asyncio.Future[T]) -> None:
        self._answer = answer
        self._mutex = threading.Lock()
        self._state = _State.WAITING
        self._on_late: Callable[[T], None] | None = None
        self._value: T
        self._error: BaseException | None = None
        self._waiting: list[Future[None]] = []

    # In the thread

    def make(self, call: Callable[[], T]) -> bool:
        """Make the call, which must not raise. Return false if it is cancelled, and so never made."""
        with self._mutex:
            if self._state is _State.CANCELLED:
                return False
            self._state = _State.RUNNING
        try:
            self._value = call()
        except BaseException as error:  # an exception that another thread has raised in this one
            self._error = error
        return True

    def end(self) -> bool:
        """Note that the call has returned. Return true if the code that made it still waits for the answer.

        A second call does no harm.
        """
        with self._mutex:
            self._state = _State.ENDED
            on_late = self._on_late
        self._end_waits()
        if on_late is None:
            return True
        self._tell_late(on_late)
        return False

    # In the event loop, or where noted in any thread

    def answer(self) -> None:
        """Hand the result to the code that waits for it, unless that was cancelled in the meantime."""
        if self._answer.done():
            return
        if self._error is None:
            self._answer.set_result(self._value)
        else:
            self._answer.set_exception(_storable(self._error))

    def leave(self, on_late: Callable[[T], None]) -> bool:
        """Cancel the call if no thread has begun it. Otherwise return true, and the result goes to ``on_late``."""
        with self._mutex:
            before = self._state
            if before is _State.WAITING:
                self._state = _State.CANCELLED
            self._on_late = on_late
        if before is _State.WAITING:
            self._end_waits()
        elif before is _State.ENDED:
            self._tell_late(on_late)
        return before is not _State.WAITING

    def _end_waits(self) -> None:
        while self._waiting:
            self._waiting.pop().set_result(None)

    def _tell_late(self, on_late: Callable[[T], None]) -> None:
        if self._error is None:
            with contextlib.suppress(BaseException):  # a failing log handler must not end the thread or the run
                on_late(self._value)

    def as_future(self) -> Future[None]:
        """Return a future for another thread to wait on. It ends with the call. Callable from any thread."""
        future: Future[None] = Future()
        with self._mutex:
            if self._state in (_State.WAITING, _State.RUNNING):
                self._waiting.append(future)
                return future
        future.set_result(None)
        return future


class _State(enum.Enum):
    WAITING = enum.auto()
    RUNNING = enum.auto()
    ENDED = enum.auto()
    CANCELLED = enum.auto()


def _storable(error: BaseException) -> BaseException:
    """Return the exception as a future takes it."""
    return RuntimeError(f"A call in a thread raised {error!r}") if isinstance(error, StopIteration) else error


class _Answers:
    """Brings answers from threads to the event loop. Those that come together share one wake-up of the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: deque[_Call[Any]] = deque()
        self._is_woken = False

    def deliver(self, call: _Call[Any]) -> None:
        """Let the event loop hand over the answer. Runs in the thread."""
        self._ended.append(call)
        if not self._is_woken:
            self._is_woken = True
            try:
                self._loop.call_soon_threadsafe(self._answer_all)
            except RuntimeError:
                pass  # the event loop is closed: the worker has stopped
            except BaseException:
                self._is_woken = False  # otherwise no later answer would reach the loop
                raise

    def _answer_all(self) -> None:
        self._is_woken = False  # first, because a thread that ends from now on must wake the loop again
        while self._ended:
            self._ended.popleft().answer()


class _DaemonThreads:
    """Reusable threads, started on demand. The interpreter does not wait for them at exit.

    Code of the program may raise an exception in a thread, as time limits do, and do so when its job has ended. So
    what wakes a thread is not the call itself, which would be lost with the exception. An answer is handed back twice
    if need be.
    """

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers
        self._calls: deque[tuple[_Call[Any], Callable[[], Any]] | None] = deque()
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._idle = 0

    def submit(self, submitted: _Call[T], call: Callable[[], T]) -> None:
        """Make a call in a thread.

        Raises
        ------
        RuntimeError
            The system refuses a thread. The call never starts.
        """
        with self._lock:
            is_one_idle = self._idle > 0
            if is_one_idle:
                self._idle -= 1
        if not is_one_idle:
            name = f"procrastinate-task_{self._started}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
            self._started += 1
        self._calls.append((submitted, call))
        self._wakes.put(None)

    def close(self) -> None:
        """Let each thread end after its call."""
        for _ in range(self._started):
            self._calls.append(None)
            self._wakes.put(None)

    def _serve(self) -> None:
        while True:
            with contextlib.suppress(BaseException):
                self._wakes.get()
            try:
                taken = self._calls.popleft()
            except IndexError:  # an exception came before the wait, and the thread has taken a call without it
                continue
            if taken is None:
                return
            submitted, call = taken
            is_made = submitted.make(call)
            del taken, call  # release what the call holds before the code that waits goes on
            with self._lock:
                self._idle += 1  # first, because the code that waits may submit the next call at once
            if is_made:
                self._hand_back(submitted)
            del submitted

    def _hand_back(self, made: _Call[Any]) -> None:
        """Hand the answer to the event loop. The thread serves on after an exception: it counts as idle."""
        for _ in range(2):
            with contextlib.suppress(BaseException):
                if made.end():
                    self._answers.deliver(made)
                return


class TaskThreads:
    """One thread per running sync job.

    A running thread cannot be stopped. After a cancelled wait the thread goes on alone and counts as left until it
    returns.

    Parameters
    ----------
    on_returned:
        Called in the event loop when a left thread has returned.
    slots:
        The slots of the worker. If left threads have them all, the log says so at growing intervals.
    """

    def __init__(
        self, on_returned: Callable[[], None], slots: int | None = None, logger: logging.Logger = logger
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = _DaemonThreads(_Answers())
        self._on_returned = on_returned
        self._slots = slots
        self._logger = logger
        self._context = contextvars.copy_context()
        self._told = contextlib.ExitStack()
        self.left = 0
        """Number of left threads: they run, and no code waits for them."""
        self._awaited: set[_Call[Any]] = set()
        self._given_up: set[_Call[Any]] = set()

    def leave_all(self) -> None:
        """Note the calls that code waits for now as given up."""
        self._given_up |= self._awaited

    def given_up(self) -> list[Future[None]]:
        """Return futures of the calls that code waited for when the worker ended. They may go on."""
        return [call.as_future() for call in self._given_up]

    def all_calls(self) -> list[Future[None]]:
        """Return futures of the calls that code waits for, and of those that were given up."""
        return [call.as_future() for call in self._awaited | self._given_up]

    async def run(
        self, call: Callable[[], T], discard: Callable[[T], None], on_left: Callable[[], None] | None = None
    ) -> T:
        """Call in a thread. After a cancellation, ``discard`` receives the call's late result in that thread.

        Parameters
        ----------
        call:
            Must not raise.
        discard:
            Called with the result of a call that returns after the cancellation.
        on_left:
            Called on cancellation if the call goes on in its thread.

        Raises
        ------
        NoThread
            The system refused a thread for several seconds, or until the cancellation. The call never starts.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        submitted = _Call(answer)
        await self._submit(submitted, call)
        self._awaited.add(submitted)
        try:
            return await answer
        except asyncio.CancelledError:
            if submitted.leave(functools.partial(self._return, discard)):
                self._count_left()
                if on_left is not None:
                    on_left()
            raise
        finally:
            self._awaited.discard(submitted)

    def close(self) -> None:
        """Accept no more calls, and do not wait for running ones."""
        self._slots = None  # nothing is left to say of them
        self._told.close()
        self._threads.close()

    async def _submit(self, submitted: _Call[T], call: Callable[[], T]) -> None:
        """Submit a call, and retry for some seconds while the system refuses a thread.

        The job keeps its slot, so the worker fetches no other.
        """
        for _ in range(_MOST_TRIES):
            try:
                self._threads.submit(submitted, call)
                return
            except RuntimeError as error:
                message = "The system refuses a thread for a job (%s): next try in %.0f s"
                with contextlib.suppress(BaseException):  # a failing log handler must not decide about the job
                    logger.warning(message, error, _NO_THREAD_PAUSE, extra={"action": "no_thread"})
            try:
                await asyncio.sleep(_NO_THREAD_PAUSE)
            except asyncio.CancelledError as cancelled:
                raise NoThread from cancelled
        raise NoThread

    def _return(self, discard: Callable[[T], None], result: T) -> None:
        """Discard a late result. Runs in the thread, or here if the thread has just returned."""
        try:
            discard(result)
        finally:
            with contextlib.suppress(RuntimeError):  # the event loop is closed: the worker has stopped
                self._loop.call_soon_threadsafe(self._count_returned)

    def _count_left(self) -> None:
        self.left += 1
        if self.left == self._slots:
            self._context.run(self._told.enter_context, _long_waits.told(self._tell_all_left))

    def _count_returned(self) -> None:
        self.left -= 1
        self._told.close()
        self._on_returned()

    def _tell_all_left(self, waited: float) -> None:
        message = (
            "The worker has started no job for %.0f s. Threads of jobs that have timed out go on in all its slots "
            "(%d). Restart it"
        )
        self._logger.warning(message, waited, self.left, extra={"action": "slots_lost"})
