"""``procrastinate worker --processes N`` with real processes, stopped and killed."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import psutil
import pytest
import sqlalchemy as sa

from procrastinate.worker.services.heartbeat import LEAVING
from tests.cli.command import DEADLINE, Command

T = TypeVar("T")
SUPERVISOR = "procrastinate.supervisor"


def until(condition: Callable[[], T]) -> T:
    """Wait until the condition holds, and return what it returned."""
    deadline = time.monotonic() + DEADLINE
    while not (result := condition()):
        assert time.monotonic() < deadline, f"It did not come to that in {DEADLINE:g} s; last: {result!r}"
        time.sleep(0.02)
    return result


class Supervised:
    """A supervisor and its worker processes, on one database."""

    def __init__(self, command: Command, connection: sa.Connection, log: pathlib.Path) -> None:
        self._command = command
        self._connection = connection
        self._log = log
        self._seen: dict[int, psutil.Process] = {}
        self.supervisor: subprocess.Popen[str] | None = None

    def start(self, *arguments: str, started: int = 2, **environment: str) -> None:
        """Start the supervisor, and wait until `started` of its workers run. An earlier supervisor must have ended."""
        if self.supervisor is not None:
            self.supervisor.communicate(timeout=DEADLINE)
        with self._log.open("w") as log:
            self.supervisor = self._command.start("worker", *arguments, stderr=log, **environment)
        until(lambda: self.logged.count("Starting worker on") >= started)

    @property
    def logged(self) -> str:
        """Return the log of the supervisor and its workers so far."""
        return self._log.read_text()

    def workers(self) -> list[int]:
        """Return the ids of the running worker processes."""
        assert self.supervisor is not None
        found = psutil.Process(self.supervisor.pid).children()
        self._seen |= {process.pid: process for process in found}
        return sorted(process.pid for process in found if process.status() != psutil.STATUS_ZOMBIE)

    def send(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        assert self.supervisor is not None
        self.supervisor.send_signal(number)

    def ended(self) -> int:
        """Wait until the supervisor ends, check that no worker is left, and return the exit status."""
        assert self.supervisor is not None
        status = self.supervisor.wait(DEADLINE)
        until(lambda: not self.left())
        return status

    def left(self) -> list[psutil.Process]:
        """Return the worker processes that are still alive."""
        return [one for one in self._seen.values() if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement, and return its rows."""
        result = self._connection.execute(sa.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []

    def defer(self, task: str, count: int = 1, **arguments: object) -> None:
        """Defer `count` jobs of one of the shop's tasks."""
        statement = sa.text(
            "INSERT INTO procrastinate_jobs (task_name, queue_name, args)"
            " SELECT :task, 'default', CAST(:args AS jsonb) FROM generate_series(1, :count)"
        )
        self._connection.execute(statement, {"task": task, "args": json.dumps(arguments), "count": count})

    def statuses(self) -> list[str]:
        """Return the statuses of all jobs, ordered by id."""
        return [str(status) for (status,) in self.sql("SELECT status::text FROM procrastinate_jobs ORDER BY id")]

    def end_of_test(self) -> None:
        """End all remaining processes."""
        if self.supervisor is not None:
            if self.supervisor.poll() is None:
                self.workers()
            self.supervisor.kill()
            self.supervisor.communicate()
        for process in self.left():
            process.kill()
            process.wait(DEADLINE)


@pytest.fixture
def supervised(database_url: str, connection: sa.Connection, tmp_path: pathlib.Path) -> Iterator[Supervised]:
    """Return a supervisor on a migrated database."""
    supervised = Supervised(Command(database_url), connection, tmp_path / "log")
    yield supervised
    supervised.end_of_test()


def _pids(directory: pathlib.Path) -> set[int]:
    """Return the ids of the processes with waiting jobs, from the files that the jobs create."""
    return {int(path.name) for path in directory.iterdir() if path.name.isdecimal()}


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return the folder in which jobs announce that they run, and in which the file `go` ends them."""
    place = tmp_path / "place"
    place.mkdir()
    return place


def test_jobs_run_on_all_processes(supervised: Supervised, place: pathlib.Path) -> None:
    """Three jobs wait for each other, and each process runs one job at a time."""
    supervised.start("--processes=3", "--name=shop", started=3)
    supervised.defer("stay", 3, place=str(place))
    pids = until(lambda: len(_pids(place)) == 3 and _pids(place))
    assert pids == set(supervised.workers())
    assert supervised.sql("SELECT count(*) FROM procrastinate_workers") == [(3,)]
    (place / "go").touch()
    until(lambda: supervised.statuses() == ["succeeded"] * 3)
    supervised.send(signal.SIGTERM)
    assert supervised.ended() == 0
    assert all(f"procrastinate.worker.shop.{number} " in supervised.logged for number in (1, 2, 3))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_stops_all_gracefully(supervised: Supervised, place: pathlib.Path, number: signal.Signals) -> None:
    """Running jobs end first, and waiting jobs stay in the queue."""
    supervised.start("--processes=2")
    supervised.defer("stay", 3, place=str(place))
    until(lambda: len(_pids(place)) == 2)
    supervised.workers()
    supervised.send(number)
    until(lambda: supervised.logged.count("Stopping worker: 1 job is running") == 2)
    assert supervised.statuses().count("doing") == 2
    until(lambda: "Waiting for worker processes to end" in supervised.logged)
    (place / "go").touch()
    assert supervised.ended() == 0, supervised.logged
    assert sorted(supervised.statuses()) == ["succeeded", "succeeded", "todo"]
    assert supervised.sql("SELECT count(*) FROM procrastinate_workers") == [(0,)]
    assert "Traceback" not in supervised.logged


def test_a_signal_that_everybody_gets_is_one(supervised: Supervised, place: pathlib.Path) -> None:
    """A terminal's Ctrl-C and systemd's SIGTERM go to the supervisor and to each worker."""
    supervised.start("--processes=2")
    supervised.defer("stay", 2, place=str(place))
    until(lambda: len(_pids(place)) == 2)
    workers = supervised.workers()
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    supervised.send(signal.SIGTERM)
    until(lambda: supervised.logged.count("Stopping worker: 1 job is running") == 2)
    (place / "go").touch()
    assert supervised.ended() == 0, supervised.logged
    assert supervised.statuses() == ["succeeded", "succeeded"]


def test_a_signal_that_comes_twice_at_once_counts_once(supervised: Supervised, place: pathlib.Path) -> None:
    """GNU ``timeout`` signals its child and then the process group."""
    supervised.start("--processes=2")
    supervised.defer("stay", 2, place=str(place))
    until(lambda: len(_pids(place)) == 2)
    workers = supervised.workers()
    for _ in range(2):
        supervised.send(signal.SIGTERM)
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
    until(lambda: supervised.logged.count("Stopping worker: 1 job is running") == 2)
    (place / "go").touch()
    assert supervised.ended() == 0, supervised.logged
    assert supervised.statuses() == ["succeeded", "succeeded"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_all_processes_and_the_next_ones_soon_take_their_jobs(
    supervised: Supervised, place: pathlib.Path, number: signal.Signals
) -> None:
    """The exit status is the shell's status for the signal."""
    supervised.start("--processes=2")
    supervised.defer("stay", 2, place=str(place))
    until(lambda: len(_pids(place)) == 2)
    supervised.workers()
    supervised.send(number)
    until(lambda: supervised.logged.count("Stopping worker: 1 job is running") == 2)
    time.sleep(0.6)  # an earlier second signal counts as a repetition of the first
    supervised.send(number)
    assert supervised.ended() == 128 + number
    assert supervised.logged.count("Ending worker at once: 1 job is cancelled") == 2
    assert "status: Error" not in supervised.logged
    assert supervised.statuses() == ["doing", "doing"]
    assert supervised.sql("SELECT stalled_timeout FROM procrastinate_workers") == [(LEAVING.stalled_timeout,)] * 2
    (place / "go").touch()
    supervised.start("--one-shot", "--processes=2")
    until(lambda: supervised.statuses() == ["succeeded", "succeeded"])
    assert supervised.ended() == 0, supervised.logged


@pytest.mark.parametrize("uvloop", ["--uvloop", "--no-uvloop"])
def test_a_second_interrupt_ends_a_single_worker_whose_job_waits_in_a_thread(
    supervised: Supervised, uvloop: str
) -> None:
    """Python alone would wait for the thread at its exit."""
    supervised.defer("stay_in_thread")
    supervised.start(uvloop, started=1)
    until(lambda: "Starting job" in supervised.logged)
    supervised.send(signal.SIGINT)
    until(lambda: "Stopping worker: 1 job is running" in supervised.logged)
    time.sleep(0.6)  # an earlier second signal counts as a repetition of the first
    supervised.send(signal.SIGINT)
    assert supervised.ended() == -signal.SIGINT
    assert supervised.statuses() == ["todo"]


def test_an_interrupt_raises_in_a_process_that_a_job_forks(database_url: str, connection: sa.Connection) -> None:
    connection.execute(
        sa.text("INSERT INTO procrastinate_jobs (task_name, queue_name) VALUES ('fork_and_interrupt', 'default')")
    )
    assert "child 1" in Command(database_url).run("worker", "--one-shot").stdout


def test_a_process_that_is_killed_is_replaced_and_its_job_rescued(supervised: Supervised, place: pathlib.Path) -> None:
    """The log names the signal that ended the process."""
    supervised.start("--processes=2", APP="tests.cli.shop.quick_app")
    supervised.defer("stay", place=str(place))
    (killed,) = until(lambda: _pids(place))
    os.kill(killed, signal.SIGKILL)
    until(lambda: "has died: signal SIGKILL. The next one starts in" in supervised.logged)
    until(lambda: len(supervised.workers()) == 2)
    (place / "go").touch()
    until(lambda: supervised.statuses() == ["succeeded"])
    assert supervised.sql("SELECT attempts FROM procrastinate_jobs") == [(2,)]
    until(lambda: supervised.logged.count("Starting worker on") == 3)
    supervised.send(signal.SIGTERM)
    assert supervised.ended() == 0, supervised.logged


def test_workers_whose_supervisor_is_killed_drain_and_end(supervised: Supervised, place: pathlib.Path) -> None:
    """The workers notice the death of their supervisor without a signal."""
    supervised.start("--processes=2")
    supervised.defer("stay", 2, place=str(place))
    until(lambda: len(_pids(place)) == 2)
    assert len(supervised.workers()) == 2
    supervised.send(signal.SIGKILL)
    until(lambda: supervised.logged.count("Stopping worker: 1 job is running") == 2)
    (place / "go").touch()
    assert supervised.ended() == -signal.SIGKILL
    assert supervised.statuses() == ["succeeded", "succeeded"]
    assert supervised.sql("SELECT count(*) FROM procrastinate_workers") == [(0,)]


def test_a_process_that_has_run_its_jobs_is_replaced(supervised: Supervised) -> None:
    """The replacement starts at once, and nothing is logged as an error."""
    supervised.start("--processes=2", "--max-jobs=1")
    before = set(supervised.workers())
    supervised.defer("add", 2)
    until(lambda: len(set(supervised.workers()) - before) == 2)
    until(lambda: supervised.logged.count("Starting worker on") == 4)
    supervised.send(signal.SIGTERM)
    assert supervised.ended() == 0, supervised.logged
    assert supervised.logged.count("has ended by itself, and is replaced") == 2
    assert "ERROR" not in supervised.logged


def test_one_shot_ends_when_nothing_is_left(supervised: Supervised) -> None:
    """Ended processes are not replaced."""
    supervised.defer("add", 20)
    supervised.start("--one-shot", WORKER_PROCESSES="2")
    assert supervised.ended() == 0, supervised.logged
    assert supervised.statuses() == ["succeeded"] * 20
    assert supervised.logged.count("Starting worker on") == 2


def test_of_one_shot_a_process_that_dies_is_not_replaced_and_the_status_tells(
    supervised: Supervised, place: pathlib.Path
) -> None:
    """The exit status is 1, and the log names the process."""
    supervised.defer("stay", 2, place=str(place))
    supervised.start("--processes=2", "--one-shot")
    killed, _ = until(lambda: len(_pids(place)) == 2 and _pids(place))
    os.kill(killed, signal.SIGKILL)
    (place / "go").touch()
    assert supervised.ended() == 1
    assert sorted(supervised.statuses()) == ["doing", "succeeded"]
    assert "Worker processes did not end well:" in supervised.logged
    assert "(signal SIGKILL)" in supervised.logged


def test_a_missing_schema_ends_it(empty_database_url: str) -> None:
    """A worker and the supervisor log it, and nothing is restarted."""
    failed = Command(empty_database_url).run("worker", "--processes=2", "--no-wait-for-schema", check=False)
    assert failed.returncode == 1
    assert "procrastinate schema --apply" in failed.stderr
    assert "could not start (exit code 1)" in failed.stderr
    assert "has pid" in failed.stderr
    assert "The next one starts" not in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_database_that_is_away_at_the_first_start_ends_it() -> None:
    """A single worker ends in the same way."""
    failed = Command("postgresql+psycopg://me:hunter2@/none?host=/nowhere").run("worker", "--processes=2", check=False)
    assert failed.returncode == 1
    assert "/nowhere" in failed.stderr
    assert "hunter2" not in failed.stderr


def test_a_wrong_option_starts_nothing(database_url: str) -> None:
    """The command line parses the option, but the worker refuses its value."""
    failed = Command(database_url).run("worker", "--processes=2", "--fetch-job-polling-interval=0", check=False)
    assert failed.returncode == 1
    assert "fetch_job_polling_interval must be more than 0 seconds" in failed.stderr
    assert "The next one starts" not in failed.stderr
    assert Command(database_url).run("worker", "--processes=0", check=False).returncode == 2


@pytest.mark.timeout(300)
def test_when_workers_can_no_longer_start_it_gives_up(supervised: Supervised) -> None:
    """The supervisor gives up after several failed starts in a row, unless another process works."""
    supervised.start("--processes=2", "--no-wait-for-schema")
    supervised.sql("UPDATE procrastinate_alembic_version SET version_num = 'procrastinate_0001'")
    first, second = supervised.workers()
    os.kill(first, signal.SIGKILL)
    until(lambda: supervised.logged.count("could not start: exit code 1. The next one starts in") == 2)
    assert second in supervised.workers()
    os.kill(second, signal.SIGKILL)
    assert supervised.ended() == 1
    assert "could not start (exit code 1), and 5 in a row have failed" in supervised.logged


def test_one_process_has_no_supervisor(supervised: Supervised) -> None:
    """The command runs the worker itself."""
    supervised.start("--processes=1", started=1)
    assert supervised.workers() == []
    supervised.send(signal.SIGTERM)
    assert supervised.ended() == 0
    assert "procrastinate.worker.from the app " in supervised.logged
    assert SUPERVISOR not in supervised.logged


def test_the_app_may_say_how_many(supervised: Supervised) -> None:
    """The number comes from ``worker_defaults``, and the name set there also applies."""
    supervised.start(APP="tests.cli.shop.app_of_two")
    assert len(supervised.workers()) == 2
    supervised.send(signal.SIGTERM)
    assert supervised.ended() == 0
    assert "procrastinate.worker.of two.2 " in supervised.logged
