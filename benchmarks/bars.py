"""The bars: expected results of each case."""

from __future__ import annotations

import dataclasses
from typing import Literal

from benchmarks.results import Run

OURS = "this project"
FORMER = "procrastinate 3.10.0"
PGQUEUER = ("PGQueuer, batch 100", "PGQueuer, batch 200")
RAW_SQL = "raw SQL"

Verdict = Literal["met", "missed", "not measured"]


@dataclasses.dataclass(frozen=True)
class Bar:
    """A limit for a figure of a contender, or for its ratio to the best of some other contenders.

    Parameters
    ----------
    over:
        The other contenders. If empty, the limit applies to the figure itself.
    at_least, at_most:
        The limit. Exactly one of them is set.
    worst:
        If true, every round must keep the limit, and not only the median.
    """

    case: str
    figure: str
    contender: str = OURS
    over: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    worst: bool = False

    def measured(self, run: Run) -> float | None:
        """Return the measured value, or ``None`` if there is none."""
        case = run.case(self.case)
        if case is None or self.contender in case.failures:
            return None
        if self.over:
            series = case.ratios(self.contender, self.figure, self.over)
        else:
            series = case.series(self.contender, self.figure)
        if series is None:
            return None
        if self.worst:
            return min(series.values) if self.at_least is not None else max(series.values)
        return series.median

    def verdict(self, run: Run) -> Verdict:
        """Return whether the run kept the limit."""
        measured = self.measured(run)
        if measured is None:
            return "not measured"
        low_enough = self.at_most is None or measured <= self.at_most
        high_enough = self.at_least is None or measured >= self.at_least
        return "met" if low_enough and high_enough else "missed"

    @property
    def subject(self) -> str:
        """The figure and the contenders as text."""
        others = f" / {' or '.join(self.over)}" if self.over else ""
        return f"{self.figure}: {self.contender}{others}"

    @property
    def limit(self) -> str:
        """The limit as text."""
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


_SINGLE_DEFERS = {"defer_sync": 1.2, "defer_async": 1.25, "defer_django": 1.4, "defer_django_atomic": 1.2}
"""The most that the time of a defer may be, as a multiple of the bare INSERT."""
_BACKLOGS = (
    ("scheduled", "empty"),
    ("other queues", "empty, one queue"),
    ("busy locks", "empty"),
    ("finished", "empty"),
)
_LINES = ("a line behind 1 full key", "a line behind 1,000 full keys", "a line behind 10,000 full keys")

BARS: tuple[Bar, ...] = (
    Bar("drain_async", "jobs/s", over=(FORMER,), at_least=20),
    Bar("drain_async", "jobs/s", over=PGQUEUER, at_least=1.3),
    Bar("drain_async", "jobs/s", over=("Awa, 256",), at_least=1.0),
    Bar("drain_async", "jobs/s", over=("Oban, 500",), at_least=1.0),
    Bar("drain_async", "jobs/s", over=(RAW_SQL,), at_least=0.65),
    Bar("drain_async", "WAL bytes/job", at_most=1000),
    Bar("drain_default", "jobs/s", over=(FORMER,), at_least=5),
    Bar("drain_sync", "jobs/s", over=(FORMER,), at_least=8),
    Bar("drain_locks", "jobs/s", over=(FORMER,), at_least=8),
    Bar("batch_defer_1000", "jobs/s", over=(FORMER,), at_least=3),
    Bar("batch_defer_at_once", "jobs/s", over=(FORMER,), at_least=3),
    *(Bar(case, "defers/s", over=(FORMER,), at_least=1.0) for case in _SINGLE_DEFERS),
    *(Bar(case, "time / bare INSERT", at_most=limit) for case, limit in _SINGLE_DEFERS.items()),
    *(
        Bar("writers", "jobs/s", contender=contender, over=(other,), at_least=at_least)
        for contender, of_silence in ((OURS, 0.9), (f"{OURS}, idle worker", 0.85))
        for other, at_least in ((FORMER, 1.5), (f"{OURS} without NOTIFY", of_silence))
    ),
    Bar("writers_and_worker", "jobs/s", over=(FORMER,), at_least=1.5),
    Bar("latency", "p50 ms", over=(FORMER,), at_most=0.9),
    Bar("latency", "p99 / p50", at_most=3),
    Bar("latency", "p99 ms", at_most=15),
    Bar("latency_inside", "p50 ms", over=(FORMER,), at_most=1.0),
    *(
        Bar("low_load", figure, contender=f"{OURS}, {fleet}", over=(f"{FORMER}, {fleet}",), at_most=limit)
        for fleet in ("1 worker", "4 workers", "12 workers")
        for figure, limit in (("server ms/job", 1.2), ("workers' ms/job", 1.2), ("p50 ms", 0.9))
    ),
    *(
        Bar("fleet_64", figure, contender=f"{OURS}, 64 workers", over=(f"{OURS}, 1 worker",), at_most=limit)
        for figure, limit in (("statements/job", 3), ("server ms/job", 3), ("p50 ms", 2))
    ),
    Bar("fleet_200", "server, % of a core", contender=f"{OURS}, 200 workers, no polling", at_most=1),
    Bar(
        "fleet_200",
        "jobs/s next to them",
        contender=f"{OURS}, 200 workers",
        over=(f"{OURS}, 1 worker",),
        at_least=0.9,
    ),
    *(
        bar
        for slots in ("concurrency 1", "concurrency 100")
        for bar in (
            Bar("one_shot", "empty queue ms", f"{OURS}, {slots}", over=(f"{FORMER}, {slots}",), at_most=1.5),
            Bar("one_shot", "jobs/s", f"{OURS}, {slots}", over=(f"{FORMER}, {slots}",), at_least=10),
        )
    ),
    Bar("due_at", "p50 ms", at_most=50),
    Bar("due_at", "earliest ms", at_least=0, worst=True),
    Bar("freed", "worst ms", contender="freed lock", at_most=1000, worst=True),
    Bar("freed", "worst ms", contender="retry", at_most=1000, worst=True),
    Bar("processes", "jobs/s", contender="4 processes", over=("1 process",), at_least=1.2),
    *(
        Bar("backlog", "jobs/s", contender=backlog + state, over=(empty,), at_least=0.8)
        for backlog, empty in _BACKLOGS
        for state in ("", ", analysed")
    ),
    *(
        Bar("held", "jobs/s", contender=f"held, {backlog}", over=("no open transaction",), at_least=0.9)
        for backlog in ("empty", *(backlog for backlog, _ in _BACKLOGS))
    ),
    Bar("hot_key", "jobs/s", "a limit of 1, concurrency 1", over=("no limit, concurrency 1",), at_least=0.3),
    Bar(
        "hot_key",
        "jobs/s",
        "a limit of 1, concurrency 10",
        over=("PGQueuer, a limit of 1, batch 10", "dj_queue, a limit of 1, 10 threads"),
        at_least=1.0,
    ),
    Bar("rates", "jobs/s", "a rate", over=("Chancy, a rate",), at_least=1.0),
    Bar("reached_rate", "most in a window", at_most=1.0, worst=True),
    Bar("reached_rate", "used", at_least=0.9),
    Bar("fair", "last small job / fair place", "a fair limit", at_most=1.1, worst=True),
    *(Bar("limits_line", "jobs/s", line, over=("no line",), at_least=0.9) for line in _LINES),
    *(Bar("limits_line", "pick-up p50 ms", line, over=("no line",), at_most=1.1) for line in _LINES),
    Bar("start_stop", "start s", at_most=1, worst=True),
    Bar("start_stop", "stop s", at_most=1, worst=True),
    Bar("retention", "longest transaction ms", at_most=1000, worst=True),
    Bar("retention", "other jobs' start p99 ms", at_most=1000, worst=True),
    Bar("memory", "growth", at_most=1.05),
    Bar("soak", "jobs/s", at_least=990),
    *(
        Bar("soak", f"{figure}, growth", at_most=limit)
        for figure, limit in (
            ("MiB of memory", 1.05),
            ("MiB of tables", 1.1),
            ("MiB of indexes", 1.1),
            ("p99 ms", 1.2),
        )
    ),
    Bar("connections", "connections", contender="async jobs", at_most=4, worst=True),
    Bar("connections", "connections", contender="sync jobs", at_most=4, worst=True),
    # One connection for each process, and a listener that the processes of a host share.
    Bar("connections", "connections/process", contender="4 idle processes", at_most=1.25, worst=True),
    Bar("chord", "ms/step", contender=f"{OURS}, 10,000", over=(f"{OURS}, 1,000",), at_most=1.3),
    Bar("chord", "ms/step", contender=f"{OURS}, 10,000", over=("Celery with Redis, 10,000",), at_most=1.0),
    Bar("chain", "ms/step", contender=OURS, over=("Celery with Redis",), at_most=1.5),
    Bar("chain", "ms/step", contender=OURS, over=("Chancy",), at_most=1.0),
    Bar("workflow_held", "ms/step", contender="chord, 10,000", over=("chord, 1,000",), at_most=2.0),
    Bar("workflow_held", "ms/step", contender="chain, 2,000", over=("chain, 200",), at_most=2.0),
)
