"""9. Clocks that are wrong, changed or stopped: all times come from the database."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator

import pytest

from procrastinate import App
from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.queue import Queue
from tests.faults.size import Size
from tests.faults.waiting import until
from tests.faults.worker_process import Fleet, WorkerProcess
from tests.missing import find_file, missing

_LIBRARY = "/usr/lib/*/faketime/libfaketime.so.1"
_REQUIRED = "PROCRASTINATE_REQUIRE_FAKETIME"
_HOUR = 3600
_SUCCEEDED = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = :task AND status = 'succeeded'"


def clock_off_by(seconds: int) -> dict[str, str]:
    """Return the environment of a process with a wrong wall clock. Its monotonic clock is right."""
    library = find_file(_LIBRARY)
    if library is None:
        missing("libfaketime is not installed (Debian: apt install libfaketime)", _REQUIRED)
    return {"LD_PRELOAD": library, "FAKETIME": f"{seconds:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def start_with_wrong_clock(fleet: Fleet, queue: Queue, seconds: int, **options: object) -> WorkerProcess:
    """Start a worker with a wrong clock, and check that the clock is wrong."""
    worker = fleet.start_one(environment=clock_off_by(seconds), **options)  # type: ignore[arg-type]
    told = queue.defer("tell_time", 10**6 + len(fleet.workers), queue=f"of {len(fleet.workers)}")
    queue.becomes(told, "succeeded")
    worker.logs("time")
    (record,) = (record for record in worker.records() if record["action"] == "time")
    assert abs(float(record["message"]) - time.time() - seconds) < 60
    return worker


def test_workers_whose_clocks_are_an_hour_off(queue: Queue, fleet: Fleet, size: Size, report: Report) -> None:
    """Their rescues, retry delays and periodic tasks are unaffected."""
    jobs, ticks = size.count(5, 100), size.count(3, 30)
    queue.defer_many("note", range(2), seconds=60)
    dead = fleet.start_one(concurrency=2)
    until(lambda: queue.ledger.starts() == 2, "both run")
    queue.sql("""UPDATE procrastinate_jobs SET args = args || '{"seconds": 0}'""")
    dead.kill()
    queue.start_clock()
    for number, seconds in enumerate((_HOUR, -_HOUR)):
        queues = ["default", f"of {number + 2}"]
        start_with_wrong_clock(fleet, queue, seconds, concurrency=5, ticks="UTC", queues=queues)
    queue.defer_many("fail_once", range(10, 10 + jobs))
    until(lambda: queue.sql(_SUCCEEDED, task="fail_once") == jobs, "those that failed once have succeeded")
    for of_the_dead in (1, 2):
        queue.becomes(of_the_dead, "succeeded")
    until(lambda: len(queue.entries_of_ticks()) >= ticks, "ticks come")
    assert all(abs(tick - time.time()) < 600 for tick in queue.entries_of_ticks())
    fleet.each(lambda worker: worker.stop())
    count = sum(queue.statuses().values())
    waiting = queue.statuses().get("todo", 0)  # ticks since then
    verdict = queue.verdict(count - waiting)
    report(9, "Workers whose clocks are an hour ahead, and an hour behind", verdict, may_run_again=True)
    assert verdict.again == 2 + jobs  # jobs of the dead worker, and jobs that failed once
    assert len(queue.entries_of_ticks()) == len(set(queue.entries_of_ticks()))


@pytest.mark.full_round
def test_the_ticks_of_a_pause_of_the_machine_are_made_up_for(
    queue: Queue, fleet: Fleet, size: Size, report: Report
) -> None:
    """All workers are frozen for longer than the stall timeout."""
    pause = size.pick(4, 30)
    fleet.start(2, concurrency=3, ticks="UTC")
    until(lambda: len(queue.entries_of_ticks()) >= 2, "ticks come")
    queue.defer_many("wait_at_gate", range(4), gate="pause")
    until(lambda: sum(entry.number < 4 for entry in queue.ledger.entries()) == 4, "all jobs run")
    queue.start_clock()
    fleet.each(lambda worker: worker.freeze())
    time.sleep(pause)
    woken = datetime.datetime.now(tz=datetime.UTC).timestamp()
    fleet.each(lambda worker: worker.resume())
    queue.ledger.open_gate("pause")
    until(lambda: max(queue.entries_of_ticks()) > woken, "ticks come again")
    fleet.each(lambda worker: worker.stop())
    ticks = queue.entries_of_ticks()
    assert ticks == list(range(ticks[0], ticks[-1] + 1)), "each second has its tick, once"
    verdict = queue.verdict(sum(queue.statuses().values()) - queue.statuses().get("todo", 0))
    report(9, f"All workers stand still for {pause:g} s, as in a pause of the machine", verdict)


@pytest.fixture
def clock_of_server(cluster: Cluster) -> Iterator[Callable[[datetime.datetime], None]]:
    """Yield a function that restarts the server with its clock set to a time. The clock is right again afterwards."""

    def set_clock(time: datetime.datetime) -> None:
        clock_off_by(0)  # skips the test here if necessary, while the server runs
        cluster.stop()
        seconds = time - datetime.datetime.now(tz=datetime.UTC)
        cluster.start(clock_off_by(round(seconds.total_seconds())))

    yield set_clock
    if cluster.is_running:
        cluster.stop()
    cluster.start()


def test_clocks_that_differ_are_named(queue: Queue, clock_of_server: Callable[[datetime.datetime], None]) -> None:
    clock_of_server(datetime.datetime.now(tz=datetime.UTC) - datetime.timedelta(minutes=2))
    with App(connector=queue.url).open() as app:
        job_id = app.configure_task("t", schedule_at=datetime.datetime.now(tz=datetime.UTC)).defer()
        assert app.inspect.explain(job_id).headline.code == "clock-differs"
        assert "clock-differs" in {finding.code for finding in app.inspect.diagnose().findings}


@pytest.mark.parametrize(
    ("season", "change"),
    [
        ("summer", datetime.datetime(2027, 3, 28, 1, tzinfo=datetime.UTC)),
        pytest.param("winter", datetime.datetime(2027, 10, 31, 1, tzinfo=datetime.UTC), marks=pytest.mark.full_round),
    ],
)
def test_ticks_while_the_clocks_change(
    queue: Queue,
    fleet: Fleet,
    size: Size,
    report: Report,
    clock_of_server: Callable[[datetime.datetime], None],
    season: str,
    change: datetime.datetime,
) -> None:
    """In Paris, the hour from two to three is skipped or repeated, but each second still has one tick."""
    before, after = size.count(12, 30), size.count(3, 30)
    clock_of_server(change - datetime.timedelta(seconds=before))
    queue.start_clock()
    fleet.start(2, concurrency=3, ticks="Europe/Paris")
    until(
        lambda: queue.entries_of_ticks() and max(queue.entries_of_ticks()) > change.timestamp() + after, "it ticks on"
    )
    fleet.each(lambda worker: worker.stop())
    ticks = queue.entries_of_ticks()
    assert ticks[0] < change.timestamp(), "the workers started too late"
    assert ticks == list(range(ticks[0], ticks[-1] + 1)), "each second has its tick, once"
    verdict = queue.verdict(sum(queue.statuses().values()) - queue.statuses().get("todo", 0))
    report(9, f"Ticks each second while clocks are set to {season} time", verdict)
