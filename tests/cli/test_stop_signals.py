"""How signals end the sub-commands, also in the first process of a container."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import psutil
import pytest
import sqlalchemy as sa

from procrastinate.cli.stop_signals import sigterm_exits, stopped_by_signals
from tests.cli.command import DEADLINE, Command
from tests.cli.test_processes import until
from tests.missing import find_program, missing

_REQUIRED = "PROCRASTINATE_REQUIRE_UNSHARE"


def _unshare() -> list[str]:
    """Return the command that starts another one as process 1. Root keeps its rights to files of other users."""
    command = ["unshare", "--pid", "--fork", "--kill-child"]
    commands = [] if find_program("unshare") is None else [command, [*command, "--user", "--map-root-user"]]
    works = [one for one in commands if subprocess.run([*one, "true"], capture_output=True).returncode == 0]
    return works[0] if works else missing("unshare of util-linux cannot make a namespace here", _REQUIRED)


class FirstProcess:
    """The command as the first process of a namespace, as in a container without an init."""

    def __init__(self, command: Command, *arguments: str) -> None:
        unshare = _unshare()
        self._outer = subprocess.Popen(
            [*unshare, sys.executable, "-m", "procrastinate", *arguments],
            env=command._environment({}),
            stderr=subprocess.PIPE,
            text=True,
        )
        self._inner = until(lambda: psutil.Process(self._outer.pid).children())[0]

    def says(self, words: str) -> None:
        """Read its log up to these words."""
        assert self._outer.stderr is not None
        read = []
        for line in self._outer.stderr:
            read.append(line)
            if words in line:
                return
        raise AssertionError(f"It ended without {words!r}: {read}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal from outside, as the engine of the container does."""
        self._inner.send_signal(number)

    def ended(self) -> int:
        """Wait for its end, and return the exit status."""
        return self._outer.wait(DEADLINE)

    def end_of_test(self) -> None:
        """Kill what is left."""
        self._outer.kill()
        self._outer.communicate()


@pytest.fixture
def command(database_url: str) -> Command:
    return Command(database_url)


@pytest.mark.parametrize("name", ["metrics", "dashboard"])
def test_sigterm_ends_a_server_that_is_the_first_process_of_a_container(command: Command, name: str) -> None:
    """The system passes on only those signals for which the first process has a handler."""
    process = FirstProcess(command, name, "--port=0")
    try:
        process.says("http://127.0.0.1:")
        process.send(signal.SIGTERM)
        assert process.ended() == 128 + signal.SIGTERM
    finally:
        process.end_of_test()


def test_sigterm_ends_a_worker_that_is_the_first_process_of_a_container_and_still_imports_the_program(
    command: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_shop.py").write_text("import sys, time; print('Importing', file=sys.stderr); time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    process = FirstProcess(command, "--app=slow_shop.app", "worker")
    try:
        process.says("Importing")
        process.send(signal.SIGTERM)
        assert process.ended() == 128 + signal.SIGTERM
    finally:
        process.end_of_test()


def test_a_second_signal_ends_a_worker_that_is_the_first_process_of_a_container(
    command: Command, connection: sa.Connection
) -> None:
    """Python would wait at its exit for the thread of the job."""
    connection.exec_driver_sql("INSERT INTO procrastinate_jobs (task_name, queue_name) VALUES ('stay_in_thread', 'q')")
    process = FirstProcess(command, "worker")
    try:
        process.says("Starting job stay_in_thread")
        process.send(signal.SIGTERM)
        process.says("Stopping worker")
        process.send(signal.SIGINT)
        assert process.ended() == 128 + signal.SIGINT
    finally:
        process.end_of_test()


def test_a_command_that_sigterm_ends_leaves_no_statement_at_the_server(
    command: Command, connection: sa.Connection, engine: sa.Engine
) -> None:
    """A statement that waits for a lock does not notice that its client is gone."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with engine.connect() as locker, locker.begin():
        locker.exec_driver_sql("LOCK TABLE procrastinate_paused_queues IN SHARE MODE")
        process = command.start("queues", "pause", "mail")
        until(lambda: connection.exec_driver_sql(waiting).scalar_one() == 1)
        process.terminate()
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 128 + signal.SIGTERM
        until(lambda: connection.exec_driver_sql(waiting).scalar_one() == 0)


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
def test_a_handler_of_the_program_stays() -> None:
    with sigterm_exits():
        assert signal.getsignal(signal.SIGTERM) is _handle


@pytest.mark.usefixtures("own_handlers")
def test_the_first_signal_stops_a_block_and_the_second_ends_it() -> None:
    """The block may wait for the database, and hears of the first signal only after that."""
    stops: list[int] = []
    ends_at = time.monotonic() + DEADLINE

    def run() -> None:
        with stopped_by_signals(lambda: stops.append(1)):
            os.kill(os.getpid(), signal.SIGINT)
            assert stops == [1]
            os.kill(os.getpid(), signal.SIGTERM)
            while time.monotonic() < ends_at:
                time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert stops == [1]
    assert signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGTERM) is _handle


def test_a_command_in_a_thread_leaves_the_signals_to_the_program() -> None:
    """``await cli(["celery-bridge", ...])`` runs it so."""

    def run() -> bool:
        with stopped_by_signals(lambda: None), sigterm_exits():
            return True

    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(run).result(DEADLINE)
    assert signal.getsignal(signal.SIGTERM) is before
