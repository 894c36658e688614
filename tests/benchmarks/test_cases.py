"""Runs a case end to end on its own PostgreSQL server, and tests the checks that a case makes."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator

import pytest

from benchmarks.bench import QUICK, Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.checks import check_rows, empty_queue
from benchmarks.cases.drains import LOCKS, Drain, DrainOfLocks, check_recorded
from benchmarks.cases.fleet import Fleet
from benchmarks.cases.held import DrainWhileHeld
from benchmarks.cases.housekeeping import connections_of_fleet
from benchmarks.cases.latency import PickupInside
from benchmarks.cases.low_load import LowLoad
from benchmarks.cases.soak import Soak
from benchmarks.cases.writers import Writers
from benchmarks.cases.writers_and_worker import WritersAndWorker
from benchmarks.environments import CannotInstall
from benchmarks.results import CheckFailed, Metrics
from benchmarks.running import run_case
from benchmarks.server import Server
from benchmarks.statements import counted_statements
from benchmarks.systems import OURS, RAW_SQL


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    # Not inside pytest's directory, which pytest closes to the server's user.
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", "")  # the server sets it for its own process
        server = Server(pathlib.Path(directory))
        try:
            yield Bench(
                server,
                dataclasses.replace(
                    QUICK,
                    drained=200,
                    writer_jobs=5,
                    low_load_jobs=10,
                    idle_seconds=0.5,
                    fleet_seconds=1.0,
                    latency_jobs=10,
                    locked=2 * LOCKS,
                    held_seconds=0.4,
                    behind_backlog=1000,
                ),
            )
        finally:
            server.close()


def test_a_drain_runs_its_contenders_in_turn_and_measures_each(bench: Bench) -> None:
    case = Case(
        "tiny",
        "Tiny",
        (
            Contender("raw", Drain(RAW_SQL, lambda scale: scale.drained)),
            Contender("ours", Drain(OURS, lambda scale: scale.drained, asked={"options": {"concurrency": 10}})),
        ),
    )
    said: list[str] = []
    result = run_case(bench, case, rounds=1, say=said.append)
    assert result.failures == {}
    assert said == ["tiny: raw (round 1 of 1)", "tiny: ours (round 1 of 1)"]
    for label in ("raw", "ours"):
        assert set(result.figures(label)) == {
            "jobs/s",
            "worker CPU µs/job",
            "server CPU µs/job",
            "WAL bytes/job",
            "commits/job",
        }
        rate = result.series(label, "jobs/s")
        assert rate is not None
        assert rate.median > 0


def test_idle_workers_are_measured_on_both_sides_of_the_connection(bench: Bench) -> None:
    result = run_case(
        bench, Case("tiny", "Tiny", (Contender("ours", LowLoad(OURS, 2)),)), rounds=1, say=lambda text: None
    )
    assert result.failures == {}
    assert set(result.figures("ours")) == {"server ms/job", "workers' ms/job", "p50 ms", "p99 ms", "commits/job"}
    for figure in ("workers' ms/job", "p50 ms"):
        measured = result.series("ours", figure)
        assert measured is not None
        assert measured.median > 0


def test_a_fleet_on_one_queue_is_measured_with_the_statements_of_a_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "scale", dataclasses.replace(bench.scale, fleet_jobs=60))
    for name, value in (("FLEETS", (1,)), ("_SETTLED_FLEET", 2.0), ("_INTERVAL", 3.0)):
        monkeypatch.setattr(f"benchmarks.cases.low_load.{name}", value)
    fleet = LowLoad(OURS, 2, each=2, counts_statements=True)
    result = run_case(bench, Case("tiny", "Tiny", (Contender("ours", fleet),)), rounds=1, say=lambda text: None)
    assert result.failures == {}
    statements = result.series("ours", "statements/job")
    assert statements is not None
    assert 2 <= statements.median < 30  # the defer, the fetch and the outcome, but for what idle workers send by chance


def test_registered_workers_are_measured_with_nothing_to_do_and_next_to_a_drain(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.cases.fleet._SETTLED", 2.0)
    contenders = (
        Contender("polls", Fleet(OURS, workers=4, each=2)),
        Contender("no polling", Fleet(OURS, workers=2, each=2, polls=False)),
    )
    result = run_case(bench, Case("tiny", "Tiny", contenders), rounds=1, say=lambda text: None)
    assert result.failures == {}
    idle = {"server, % of a core", "workers, % of a core", "commits/s", "connections"}
    assert set(result.figures("polls")) == {*idle, "jobs/s next to them"}
    assert set(result.figures("no polling")) == idle
    rate = result.series("polls", "jobs/s next to them")
    assert rate is not None
    assert rate.median > 0


def test_a_fleet_that_does_not_register_is_no_measurement(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.cases.fleet._REGISTERED_WITHIN", 1.0)
    with pytest.raises(CheckFailed, match="2 of 3 workers are registered"):
        Fleet(OURS, workers=3, each=2)(bench)


def test_statements_of_other_databases_are_not_counted(bench: Bench) -> None:
    with (
        bench.server.copy(empty_queue(bench, OURS)) as counted,
        bench.server.copy(empty_queue(bench, OURS)) as other,
        counted_statements(bench.server, counted) as statements,
    ):
        other.execute("SELECT 1")
        counted.number("SELECT %s::int", 1)
        counted.execute("SELECT 1")
        assert statements.so_far() == 2
    assert bench.server.setting("log_statement") == "none"


def test_jobs_on_locks_are_drained_as_they_were_deferred(bench: Bench) -> None:
    figures = DrainOfLocks(OURS)(bench)
    assert figures["jobs/s"] > 0
    with bench.server.copy(bench.template(f"{OURS.label}, 400 on {LOCKS} locks", lambda database: None)) as database:
        assert database.number("SELECT count(DISTINCT lock) FROM procrastinate_jobs") == LOCKS
        assert (
            database.number("SELECT max(jobs) FROM (SELECT count(*) AS jobs FROM procrastinate_jobs GROUP BY lock)")
            == 2
        )


def test_a_process_that_defers_and_runs_is_measured(bench: Bench) -> None:
    figures = PickupInside(OURS)(bench)
    assert 0 < figures["p50 ms"] <= figures["p99 ms"]


def test_the_connections_of_idle_processes_are_counted_for_each(bench: Bench) -> None:
    assert 1 <= connections_of_fleet(bench)["connections/process"] <= 4


def test_a_drain_behind_an_open_transaction_leaves_its_dead_rows(bench: Bench) -> None:
    held, free = DrainWhileHeld(None)(bench), DrainWhileHeld(None, held=False)(bench)
    for figures in (held, free):
        assert figures["jobs"] == 2000
        assert figures["tables, MiB more"] > 0
        assert figures["indexes, MiB more"] > 0
    assert held["dead rows"] >= 4000  # each job was changed twice


def test_a_soak_tells_each_reading_and_compares_its_end_with_its_middle(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(bench, "tell", told.append)
    monkeypatch.setattr(bench, "scale", dataclasses.replace(bench.scale, soak_minutes=3))
    result = run_case(
        bench, Case("tiny", "Tiny", (Contender("ours", Soak(period=4.0, rate=100)),)), rounds=1, say=lambda text: None
    )
    assert result.failures == {}
    assert [reading.partition(":")[0] for reading in told] == ["1 of 3", "2 of 3", "3 of 3"]
    jobs, rate, memory = (result.series("ours", name) for name in ("jobs", "jobs/s", "MiB of memory, growth"))
    assert jobs is not None
    assert jobs.median == 1200
    assert rate is not None
    assert 50 < rate.median < 105
    assert memory is not None
    assert 0.5 < memory.median < 2


def test_writers_are_measured_until_they_finish_and_until_a_worker_has_run_all_their_jobs(bench: Bench) -> None:
    case = Case("tiny", "Tiny", (Contender("ours", WritersAndWorker(OURS)),))
    result = run_case(bench, case, rounds=1, say=lambda text: None)
    assert result.failures == {}
    written, run = result.series("ours", "jobs/s"), result.series("ours", "jobs written and run/s")
    assert written is not None
    assert run is not None
    assert 0 < run.median < written.median


def test_writers_alone_are_measured_with_and_without_a_worker_that_wants_to_be_told(bench: Bench) -> None:
    case = Case("tiny", "Tiny", (Contender("busy", Writers(OURS, is_busy=True)), Contender("idle", Writers(OURS))))
    result = run_case(bench, case, rounds=1, say=lambda text: None)
    assert result.failures == {}
    assert result.contenders() == ["busy", "idle"]


def test_a_drain_that_recorded_too_little_is_no_measurement(bench: Bench) -> None:
    with bench.server.copy(bench.waiting_jobs(OURS, 200)) as database:
        check_rows(database, 200)
        with pytest.raises(CheckFailed, match="200 jobs ran, 0 are recorded"):
            check_recorded(OURS, database, 200)
        with pytest.raises(CheckFailed, match="200 jobs were deferred; 0 are there"):
            check_rows(database, 200, status="succeeded")


def test_defers_that_left_too_few_rows_are_no_measurement(bench: Bench) -> None:
    with (
        bench.server.copy(empty_queue(bench, OURS)) as database,
        pytest.raises(CheckFailed, match="5 jobs were deferred; 0 are there"),
    ):
        check_rows(database, 5)


def test_who_cannot_be_installed_is_left_out_and_who_fails_is_reported(bench: Bench) -> None:
    def absent(bench: Bench) -> Metrics:
        raise CannotInstall("no wheel")

    def wrong(bench: Bench) -> Metrics:
        raise CheckFailed("a job was lost")

    contenders = (Contender("absent", absent), Contender("wrong", wrong), Contender("fine", lambda bench: {"x": 1.0}))
    result = run_case(bench, Case("mixed", "Mixed", contenders), rounds=2, say=lambda text: None)
    assert result.left_out == {"absent": "no wheel"}
    assert result.failures == {"wrong": "a job was lost"}
    assert result.contenders() == ["fine"]
