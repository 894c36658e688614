"""Cases for jobs with limits: one limit or many keys, a hot key, rates, and tenants that take turns."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.drains import Drain, drain
from benchmarks.peers.tenants import RATE, SMALL, TENANTS
from benchmarks.results import CheckFailed, Metrics
from benchmarks.systems import CHANCY, DJ_QUEUE, LIMITED, PGQUEUER, System

_TEN: dict[str, Any] = {"options": {"concurrency": 10}}
_ONE: dict[str, Any] = {"options": {"concurrency": 1}}


def _drain(task: str, options: dict[str, Any]) -> Drain:
    return Drain(LIMITED, lambda scale: scale.drained_singly, task, options)


def _pgqueuer(**asked: Any) -> Drain:
    return Drain(PGQUEUER, lambda scale: scale.drained_singly, asked={"batch": 10, **asked})


def _pgqueuer_singly() -> Drain:
    """Return a drain of few jobs: with a limit of 1, PGQueuer runs about 10 a second."""
    return Drain(PGQUEUER, lambda scale: scale.drained_singly_former, asked={"batch": 10, "limit": 1})


def _dj_queue(task: str, **asked: Any) -> Drain:
    return Drain(DJ_QUEUE, lambda scale: scale.drained_singly_former, task, asked={"concurrency": 10, **asked})


def _chancy(**asked: Any) -> Drain:
    return Drain(CHANCY, lambda scale: scale.drained_singly, asked={"concurrency": 10, **asked})


_BUSIEST = """
SELECT max(started), extract(epoch FROM max(at) - min(at))::double precision
FROM (
    SELECT at, count(*) OVER (ORDER BY at RANGE BETWEEN CURRENT ROW AND '999 ms' FOLLOWING) AS started
    FROM ({starts}) AS start
) AS each_start
"""
_STARTS = {
    LIMITED.label: "SELECT at FROM procrastinate_events WHERE type = 'started'",
    CHANCY.label: "SELECT started_at AS at FROM chancy_jobs",
}
"""Queries for the times at which the jobs of a system started."""


@dataclasses.dataclass(frozen=True)
class ReachedRate:
    """A drain of more jobs than a rate lets start at once."""

    system: System
    task: str = "noop"
    asked: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(self, bench: Bench) -> Metrics:
        jobs = bench.scale.rated
        with bench.server.copy(bench.waiting_jobs(self.system, jobs, self.task)) as database:
            measured = drain(bench, self.system, database, jobs, **self.asked)
            with database.connect() as connection:
                busiest, seconds = connection.execute(_BUSIEST.format(starts=_STARTS[self.system.label])).fetchall()[0]
        # The first window starts as many jobs at once as the rate allows.
        return {
            "used": (jobs - RATE) / RATE / seconds,
            "most in a window": busiest / RATE,
            **{name: measured[name] for name in ("worker CPU µs/job", "server CPU µs/job")},
        }


_PLACES = """
SELECT job_id - (SELECT min(job_id) FROM procrastinate_events) FROM procrastinate_events
WHERE type = 'started' ORDER BY id
"""


@dataclasses.dataclass(frozen=True)
class Turns:
    """A drain of the jobs of one big tenant, and of small tenants that came later."""

    task: str

    def __call__(self, bench: Bench) -> Metrics:
        jobs = bench.scale.drained_singly + TENANTS * SMALL
        with bench.server.copy(bench.waiting_jobs(LIMITED, jobs, self.task)) as database:
            measured = drain(bench, LIMITED, database, jobs, **_TEN)
            with database.connect() as connection:
                started = [row[0] for row in connection.execute(_PLACES)]
        if len(started) != jobs:
            raise CheckFailed(f"{jobs} jobs ran, and {len(started)} have started")
        last = max(place for place, number in enumerate(started, 1) if number >= jobs - TENANTS * SMALL)
        return {
            "last small job / fair place": last / ((TENANTS + 1) * SMALL),
            **{name: measured[name] for name in ("jobs/s", "worker CPU µs/job", "server CPU µs/job")},
        }


LIMITS = (
    Case(
        "limits",
        "Drain, async no-op jobs under one limit (dj_queue: in threads), concurrency 10",
        (
            Contender("no limit", _drain("free", _TEN)),
            Contender("a limit of 10", _drain("hot_ten", _TEN)),
            Contender("a limit of 10 for each of 1,000 keys", _drain("keys", _TEN)),
            Contender("PGQueuer, no limit, batch 10", _pgqueuer()),
            Contender("PGQueuer, a limit of 10, batch 10", _pgqueuer(limit=10)),
            Contender("dj_queue, no limit", _dj_queue("noop")),
            Contender("dj_queue, a limit of 10", _dj_queue("hot_ten")),
            Contender("dj_queue, a limit of 10 for each of 1,000 keys", _dj_queue("keys")),
        ),
    ),
    Case(
        "hot_key",
        "Drain, async no-op jobs of one key, one at a time (dj_queue: in threads)",
        (
            Contender("no limit, concurrency 1", _drain("free", _ONE)),
            Contender("a limit of 1, concurrency 1", _drain("hot_one", _ONE)),
            Contender("a limit of 1, concurrency 10", _drain("hot_one", _TEN)),
            Contender("one lock, concurrency 10", _drain("locked", _TEN)),
            Contender("PGQueuer, a limit of 1, batch 10", _pgqueuer_singly()),
            Contender("dj_queue, a limit of 1, 10 threads", _dj_queue("hot_one")),
        ),
    ),
    Case(
        "rates",
        "Drain, async no-op jobs with a rate that is never reached, concurrency 10",
        (
            Contender("no rate", _drain("free", _TEN)),
            Contender("a rate", _drain("rated", _TEN)),
            Contender("Chancy, no rate", _chancy()),
            Contender("Chancy, a rate", _chancy(rate=1_000_000)),
        ),
    ),
    Case(
        "reached_rate",
        f"Drain, async no-op jobs with a rate of {RATE} a second, concurrency 10; windows of 999 ms",
        (
            Contender("this project", ReachedRate(LIMITED, "slowed", _TEN)),
            Contender("Chancy", ReachedRate(CHANCY, asked={"concurrency": 10, "rate": RATE})),
        ),
    ),
    Case(
        "fair",
        f"Drain, async no-op jobs of a big tenant and of {TENANTS} later ones with {SMALL} jobs each, concurrency 10",
        (
            Contender("no limit", Turns("free")),
            Contender("a limit of 10 for each tenant", Turns("tenants")),
            Contender("a fair limit", Turns("fair")),
        ),
    ),
)
