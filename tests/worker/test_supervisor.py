"""A supervisor in a program: what it says of its processes, and what it leaves of the program's signal handlers."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

import pytest

from procrastinate.worker import Supervisor
from procrastinate.worker.processes import supervisor
from tests.worker.running import happens, soon, until

HANGS = "import time; time.sleep(1)"
"""An import that waits."""
STARTS = (
    "import os, socket; "
    "socket.socket(fileno=int(os.environ['PROCRASTINATE_SUPERVISED'].partition(':')[2])).send(b's')"
)  # fmt: skip


@pytest.mark.parametrize(("program", "is_told"), [(HANGS, True), (f"{STARTS}; {HANGS}", False)])
async def test_a_supervisor_says_which_process_has_not_started(
    program: str, is_told: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The process itself cannot say so while it hangs in an import."""
    monkeypatch.setattr(supervisor, "_LONG_START", 0.5)
    await Supervisor([sys.executable, "-c", program], 1, replace=False).run()
    said = [record.getMessage() for record in caplog.records if vars(record).get("action") == "process_starts_long"]
    assert any("Worker process 1 (pid" in one for one in said) == is_told


def _ends_without_a_database(mark: pathlib.Path) -> str:
    """Return a program that dies: the first time after its start, and later because the database is away."""
    return (
        f"import os, pathlib, socket; mark = pathlib.Path({str(mark)!r}); word = b'd' if mark.exists() else b's'; "
        "mark.touch(); "
        "socket.socket(fileno=int(os.environ['PROCRASTINATE_SUPERVISED'].partition(':')[2])).send(word); "
        "raise SystemExit(1)"
    )


async def test_the_pauses_of_a_supervisor_stay_short_while_the_database_is_away(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fourteen starts whose pauses double each time take longer than the test may."""
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(supervisor, "_LONGEST_IN_OUTAGE", 0.05)
    supervised = Supervisor([sys.executable, "-c", _ends_without_a_database(tmp_path / "mark")], 1, replace=True)
    running = asyncio.create_task(supervised.run())
    await until(lambda: [vars(one).get("action") for one in caplog.records].count("process_died") >= 14)
    supervised.stop()
    await soon(running)


def _handle(number: int, frame: FrameType | None) -> None:
    """Handle a signal as a program does."""


@pytest.fixture
def own_handlers() -> Iterator[None]:
    """Handlers of the program, which are gone after the test."""
    before = {number: signal.signal(number, _handle) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_handlers")
async def test_a_supervisor_puts_the_handlers_of_the_program_back() -> None:
    """One is of the program itself, and one is a callback of its event loop."""
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, heard.set)
    try:
        await Supervisor([sys.executable, "-c", ""], 1, replace=False).run()
        assert signal.getsignal(signal.SIGTERM) is _handle
        os.kill(os.getpid(), signal.SIGINT)
        await happens(heard)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
