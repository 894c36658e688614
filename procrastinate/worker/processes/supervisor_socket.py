"""What ties a worker process to its supervisor: a pair of sockets, one end each.

The supervisor sends nothing. It closes its end for the worker to stop, and its death closes it, too. The worker says
how far it has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import socket
from collections.abc import Callable, Iterator

VARIABLE = "PROCRASTINATE_SUPERVISED"


class Word(bytes, enum.Enum):
    """What a worker process says of its start."""

    STARTED = b"s"
    DATABASE_UNAVAILABLE = b"d"


class SupervisorSocket:
    """The worker's end.

    Attributes
    ----------
    number:
        Which of the supervisor's workers this is, from 1.
    """

    def __init__(self, number: int, end: socket.socket) -> None:
        self.number = number
        self._end = end

    @classmethod
    def from_environment(cls) -> SupervisorSocket | None:
        """The tether of this process; ``None`` where it has no supervisor. Not for the processes that tasks start."""
        value = os.environ.pop(VARIABLE, None)
        if value is None:
            return None
        number, _, descriptor = value.partition(":")
        os.set_inheritable(int(descriptor), False)
        return cls(int(number), socket.socket(fileno=int(descriptor)))

    @staticmethod
    def is_in_environment() -> bool:
        """Whether this process has a supervisor, and has not taken its tether yet."""
        return VARIABLE in os.environ

    def say(self, word: Word) -> None:
        """Say how far this worker has come. Where nobody listens any more, nothing is said."""
        with contextlib.suppress(OSError):
            self._end.send(word.value)

    @contextlib.contextmanager
    def watched(self, when_loose: Callable[[], None]) -> Iterator[None]:
        """Call ``when_loose`` in the running event loop once the supervisor has let go, or is gone."""
        loop = asyncio.get_running_loop()

        def loosed() -> None:
            loop.remove_reader(self._end)
            when_loose()

        self._end.setblocking(False)
        loop.add_reader(self._end, loosed)
        try:
            yield
        finally:
            loop.remove_reader(self._end)


class SupervisorsEnd:
    """The supervisor's end, and the worker's until it has been handed over."""

    def __init__(self, number: int) -> None:
        self._end, self._workers_end = socket.socketpair()
        self._end.setblocking(False)
        self._words = b""
        self._number = number

    @property
    def descriptor(self) -> int:
        """What the worker process has to inherit."""
        return self._workers_end.fileno()

    @property
    def environment(self) -> dict[str, str]:
        """What tells the worker process where its end is."""
        return {VARIABLE: f"{self._number}:{self.descriptor}"}

    def handed_over(self) -> None:
        """The worker process has its end: the copy of it here would keep it open."""
        self._workers_end.close()

    def has_said(self, word: Word) -> bool:
        """Whether the worker has said so by now."""
        with contextlib.suppress(OSError):  # nothing new, or nobody there
            self._words += self._end.recv(64)
        return word.value in self._words

    def let_go(self) -> None:
        """Have the worker stop. What it has said by now can still be asked for."""
        for word in Word:
            self.has_said(word)
        with contextlib.suppress(OSError):
            # A process that was forked here has a copy of this end, and would keep the worker from its stop.
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()
