"""Cases for jobs with limits, and for jobs without limits behind a line of limited ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.case import Case, Contender
from benchmarks.cases.backlogs import Backlog, DrainBehind
from benchmarks.cases.drains import Drain
from benchmarks.systems import LIMITED, PGQUEUER

_KEYS = (1, 1_000, 10_000)
_TEN: dict[str, Any] = {"options": {"concurrency": 10}}
_ONE: dict[str, Any] = {"options": {"concurrency": 1}}

_DEFINED = """
INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() + interval '1 day');
INSERT INTO procrastinate_limits (name, concurrency) VALUES ('backlog', 1);
INSERT INTO procrastinate_jobs (queue_name, task_name, limit_name, limit_key, scheduled_at, status, worker_id)
SELECT 'default', 'backlog', 'backlog', 'key ' || number, now(), 'doing', (SELECT max(id) FROM procrastinate_workers)
FROM generate_series(0, {keys} - 1) AS number
"""


def _line(keys: int) -> Backlog:
    """Return a line of limited jobs behind full keys, in front of the jobs to run."""
    return Backlog(
        f"a line behind {keys:,} full keys",
        "priority, limit_name, limit_key, scheduled_at, readiness",
        f"10, 'backlog', 'key ' || number % {keys}, now(), 3",
        before=_DEFINED.format(keys=keys),
    )


def _drain(task: str, options: dict[str, Any]) -> Drain:
    return Drain(LIMITED, lambda scale: scale.drained_singly, task, options)


def _behind_lines() -> Iterator[Contender]:
    yield Contender("no line", DrainBehind(None))
    for keys in _KEYS:
        yield Contender(_line(keys).name, DrainBehind(_line(keys), analysed=True))


LIMITS = (
    Case(
        "limits",
        "Drain, async no-op jobs under one limit",
        (
            Contender("no limit, concurrency 10", _drain("free", _TEN)),
            Contender("a limit of 10, concurrency 10", _drain("hot_ten", _TEN)),
            Contender("a limit of 10 for each of 1,000 keys, concurrency 10", _drain("keys", _TEN)),
            Contender("a rate that is never reached, concurrency 10", _drain("rated", _TEN)),
            Contender("no limit, concurrency 1", _drain("free", _ONE)),
            Contender("a limit of 1, concurrency 1", _drain("hot_one", _ONE)),
            Contender("a limit of 1, concurrency 10", _drain("hot_one", _TEN)),
            Contender("one lock, concurrency 10", _drain("locked", _TEN)),
            Contender(
                "PGQueuer, no limit, batch 10", Drain(PGQUEUER, lambda scale: scale.drained_singly, asked={"batch": 10})
            ),
            Contender(
                "PGQueuer, a limit of 10, batch 10",
                Drain(PGQUEUER, lambda scale: scale.drained_singly, asked={"batch": 10, "limit": 10}),
            ),
        ),
    ),
    Case("limits_line", "Rate of jobs without a limit behind a line of limited ones", tuple(_behind_lines())),
)
