"""Pair of sockets that ties a worker process to its supervisor, one end each.

The supervisor sends nothing. It closes its end to stop the worker, and its death closes that end too. The worker
reports the progress of its start.
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
    """Report of a worker process about its start."""

    STARTED = b"s"
    DATABASE_UNAVAILABLE = b"d"


class SupervisorSocket:
    """The worker's end.

    Attributes
    ----------
    number:
        The number of this worker under its supervisor, from 1.
    """

    def __init__(self, number: int, end: socket.socket) -> None:
        self.number = number
        self._end = end

    @classmethod
    def from_environment(cls) -> SupervisorSocket | None:
        """Return the socket of this process, or ``None`` if the process has no supervisor.

        The function removes the variable from the environment, so that child processes of tasks do not inherit it.
        """
        value = os.environ.pop(VARIABLE, None)
        if value is None:
            return None
        number, _, descriptor = value.partition(":")
        os.set_inheritable(int(descriptor), False)
        return cls(int(number), socket.socket(fileno=int(descriptor)))

    @staticmethod
    def is_in_environment() -> bool:
        """Return True if this process has a supervisor and has not called :meth:`from_environment` yet."""
        return VARIABLE in os.environ

    def say(self, word: Word) -> None:
        """Report the progress of this worker. Without a listening supervisor, do nothing."""
        with contextlib.suppress(OSError):
            self._end.send(word.value)

    @contextlib.contextmanager
    def watched(self, when_loose: Callable[[], None]) -> Iterator[None]:
        """Call ``when_loose`` in the running event loop once the supervisor closes its end or dies."""
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
    """The supervisor's end, and the worker's end until the worker process has it."""

    def __init__(self, number: int) -> None:
        self._end, self._workers_end = socket.socketpair()
        self._end.setblocking(False)
        self._words = b""
        self._number = number

    @property
    def descriptor(self) -> int:
        """The file descriptor that the worker process must inherit."""
        return self._workers_end.fileno()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variable that tells the worker process its number and descriptor."""
        return {VARIABLE: f"{self._number}:{self.descriptor}"}

    def handed_over(self) -> None:
        """Close this process's copy of the worker's end, which would keep that end open."""
        self._workers_end.close()

    def has_said(self, word: Word) -> bool:
        """Return True if the worker has reported this."""
        with contextlib.suppress(OSError):  # no new report, or the worker is gone
            self._words += self._end.recv(64)
        return word.value in self._words

    def let_go(self) -> None:
        """Stop the worker. Its reports stay available."""
        for word in Word:
            self.has_said(word)
        with contextlib.suppress(OSError):
            # A process forked here has a copy of this end, which would keep the worker from noticing the close.
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()
