"""The same random series of operations on limited jobs gives the same results in memory and on PostgreSQL."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, JobRetry, LimitDefinition, RateTerms, Status, StoredJob, WorkerIdentity
from procrastinate.core.tables import jobs
from procrastinate.testing.tables import Tables
from tests.conformance import steps
from tests.conformance.runs import Run, SyncRun
from tests.conformance.steps import FUTURE, PAST
from tests.database import new_job
from tests.testing.conformance_kind import STEPS, InMemoryRun

IS_LONG = os.environ.get("PROCRASTINATE_TESTS_LONG") == "1"
LENGTH = 120 if IS_LONG else 50
MINUTE = 60.0
HOUR = 3600.0
NUMBERS: list[dict[str, Any]] = [
    {"concurrency": 2},
    {"total": 3},
    {"concurrency": 2, "total": 3},
    {"fair": True},
    {"fair": True, "concurrency": 2},
    {"rates": (RateTerms(4, HOUR),)},
    {"rates": (RateTerms(2, MINUTE), RateTerms(7, HOUR)), "concurrency": 3},
    {"total_rates": (RateTerms(5, HOUR),)},
    {"fair": True, "rates": (RateTerms(4, HOUR),), "total_rates": (RateTerms(6, HOUR),)},
]
COLUMNS = ("id", "status", "readiness", "attempts", "limit_name", "limit_key", "limit_weight", "lock")


def list_places(connection: sa.Connection) -> list[tuple[Any, ...]]:
    """List where each job is, as an operation."""
    columns = [jobs.c[name] for name in COLUMNS]
    return [(*row,) for row in connection.execute(sa.select(*columns).order_by(jobs.c.id))]


@STEPS.of(list_places)
def list_places_in_memory(tables: Tables) -> list[tuple[Any, ...]]:
    found = []
    for row in tables.where(lambda _: True):
        progress = tables.progress(row["id"])
        columns: dict[str, Any] = {name: getattr(progress, name) for name in COLUMNS if hasattr(progress, name)}
        columns |= {name: value for name, value in row.items() if name in COLUMNS}
        found.append(tuple(Status(columns[name]) if name == "status" else columns[name] for name in COLUMNS))
    return found


class LimitedStory:
    """A random series of operations on jobs of one limit, on both sides. After each step both settle and are equal."""

    def __init__(self, sides: tuple[Run, Run], numbers: dict[str, Any], seed: int) -> None:
        self._sides = sides
        self._random = random.Random(seed)
        self._fetched: list[StoredJob] = []
        self._log: list[Any] = []
        self._numbers = numbers
        self._run(core.define_limits, [LimitDefinition(name="l", **numbers)])
        for concurrency in (3, 2):
            self._both(core.register_worker, *_terms(concurrency))
        self._workers = [run(steps.list_workers) for run in sides]

    def _both(self, operation: Callable[..., Any], *args: Any, **options: Any) -> list[Any]:
        self._log.append((operation.__name__, args, options))
        return [run(operation, *args, **options) for run in self._sides]

    def _run(self, operation: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Run an operation on both sides, settle, compare, and return the result of PostgreSQL."""
        results = self._both(operation, *args, **options)
        self.settle()
        return results[-1]

    def settle(self) -> None:
        """Admit all jobs that may have a slot, and compare where each job is."""
        for run in self._sides:
            steps.settle(run)
            run(core.sweep_lines)
            steps.settle(run)
        in_memory, on_postgresql = (run(list_places) for run in self._sides)
        assert in_memory == on_postgresql, "\n".join(map(str, self._log[-60:]))
        listed = [run(core.list_limits) for run in self._sides]
        assert listed[0] == listed[1]
        for key in "abc":
            shown = [_comparable(run(core.show_limit, "l", key)) for run in self._sides]
            assert shown[0] == shown[1], "\n".join(map(str, self._log[-60:]))

    def go_on(self) -> None:
        """Run one random step."""
        happenings: dict[Callable[[], object], int] = {
            self._defer: 9,
            self._fetch: 6,
            self._finish: 5,
            self._retry: 1,
            self._release: 1,
            self._cancel: 1,
            self._hold_off: 1,
            self._set: 1,
            self._wait: 2,
        }
        (happening,) = self._random.choices(list(happenings), weights=list(happenings.values()))
        happening()

    def _defer(self) -> None:
        choose = self._random.choice
        job = new_job(
            limit_name="l",
            limit_key=choose("aaabbc"),
            limit_weight=choose((None, None, None, 2)),
            priority=choose((0, 0, 1)),
            scheduled_at=choose((None, None, PAST)),
        )
        self._run(core.defer_job, job)

    def _fetch(self) -> None:
        self._log.append("fetch")
        place, limit = self._random.choice((0, 1)), self._random.choice((1, 2, 3))
        fetched = [
            run(core.fetch_jobs, worker_id=workers[place], limit=limit)
            for run, workers in zip(self._sides, self._workers, strict=True)
        ]
        assert [[job.id for job in one] for one in fetched[:1]] == [[job.id for job in one] for one in fetched[1:]]
        self._fetched += [
            # Both sides have their own ids of workers.
            StoredJob(**{name: getattr(job, name) for name in _FIELDS} | {"worker_id": place})
            for job in fetched[1]
        ]
        self.settle()

    def _take(self) -> StoredJob | None:
        if not self._fetched:
            return None
        return self._fetched.pop(self._random.randrange(len(self._fetched)))

    def _leave(self, leave: Callable[[Run, int, StoredJob], object]) -> None:
        job = self._take()
        if job is not None:
            self._log.append((leave, job.id))
            for run, workers in zip(self._sides, self._workers, strict=True):
                assert job.worker_id is not None
                leave(run, workers[job.worker_id], job)
            self.settle()

    def _finish(self) -> None:
        delete = self._random.random() < 0.3

        def finish(run: Run, worker_id: int, job: StoredJob) -> None:
            outcome = FinishedJob(id=job.id, attempts=job.attempts, status=Status.SUCCEEDED, delete=delete)
            assert run(core.finish_jobs, [outcome], worker_id=worker_id) == {job.id}

        self._leave(finish)

    def _retry(self) -> None:
        retry_at = self._random.choice((PAST, FUTURE))

        def retry(run: Run, worker_id: int, job: StoredJob) -> None:
            run(core.retry_jobs, [JobRetry(id=job.id, attempts=job.attempts, retry_at=retry_at)], worker_id=worker_id)

        self._leave(retry)

    def _release(self) -> None:
        def release(run: Run, worker_id: int, job: StoredJob) -> None:
            run(core.release_jobs, [core.FetchedJob(id=job.id, attempts=job.attempts)], worker_id=worker_id)

        self._leave(release)

    def _cancel(self) -> None:
        waiting = self._sides[1](core.list_jobs, core.JobFilter(status=Status.TODO))
        if waiting:
            self._run(core.cancel_job, self._random.choice(waiting).id)

    def _hold_off(self) -> None:
        self._run(core.hold_off, "l", self._random.choice("ab"), HOUR)

    def _set(self) -> None:
        """Set a higher number, or the first again."""
        if self._random.random() < 0.5 or "concurrency" not in self._numbers:
            self._run(core.reset_limit, "l")
        else:
            self._run(core.set_limit, LimitDefinition(name="l", concurrency=self._numbers["concurrency"] + 2))

    def _wait(self) -> None:
        self._run(steps.age_windows, self._random.choice((MINUTE, HOUR)))


_FIELDS = StoredJob.__dataclass_fields__


def _terms(concurrency: int) -> tuple[core.WorkerTerms, WorkerIdentity]:
    identity = WorkerIdentity(
        name="w", hostname="h", pid=1, version="1", queues=None, concurrency=concurrency, listens=True
    )
    return core.WorkerTerms(heartbeat_interval=10.0, stalled_timeout=30.0), identity


def _comparable(shown: core.LimitKey) -> tuple[Any, ...]:
    """Return what both sides say. Their clocks differ."""
    numbers = (shown.held, shown.running, shown.in_line, shown.oldest_id, shown.next_id, shown.next_weight)
    return (*numbers, shown.next_start is None)


@pytest.mark.parametrize("numbers", NUMBERS, ids=lambda numbers: " and ".join(numbers))
@pytest.mark.parametrize("seed", range(2 if IS_LONG else 1))
def test_limited_jobs_are_admitted_in_memory_as_on_postgresql(
    engine: sa.Engine, numbers: dict[str, Any], seed: int
) -> None:
    story = LimitedStory((InMemoryRun(), SyncRun(engine)), numbers, seed)
    for _ in range(LENGTH):
        story.go_on()
