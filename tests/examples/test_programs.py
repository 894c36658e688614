"""The programs of these tests themselves: nothing that they start stays, and what it has printed is shown."""

from __future__ import annotations

import os

import pytest

from tests.examples import programs

FILES = ("http.server", "0", "--bind", "127.0.0.1")
STUBBORN = (
    "timeit",
    "--setup=import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print(f'http://127.0.0.1:{os.getpid()}', flush=True)",
    "time.sleep(600)",
)
"""A server that does not stop, and prints its process id as the port."""


def test_what_a_server_has_printed_is_shown_where_a_test_fails() -> None:
    with pytest.raises(ZeroDivisionError) as raised, programs.Programs("").serve(*FILES):
        raise ZeroDivisionError
    assert "Serving HTTP on 127.0.0.1" in raised.value.__notes__[0]


def test_what_a_server_has_printed_is_shown_where_it_does_not_start() -> None:
    with pytest.raises(AssertionError) as raised, programs.Programs("").serve("http.server", "no port"):
        pass
    assert "invalid int value: 'no port'" in raised.value.__notes__[0]


def test_a_server_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = []

    def serve() -> None:
        with programs.Programs("").serve(*STUBBORN) as address:
            processes.append(int(address.rpartition(":")[2]))
            monkeypatch.setattr(programs, "DEADLINE", 0.2)

    with pytest.raises(AssertionError, match="does not stop"):
        serve()
    with pytest.raises(ProcessLookupError):
        os.kill(processes[0], 0)
