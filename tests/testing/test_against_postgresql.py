"""The same long random series of operations gives the same results in memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, JobFilter, JobRetry, Readiness, RescuedJob, Status, StoredJob, channels
from procrastinate.core.tables import events, jobs
from procrastinate.testing.rows import matching
from procrastinate.testing.tables import Tables
from tests.conformance import steps
from tests.conformance.runs import Run, SyncRun
from tests.conformance.steps import FUTURE, HOUR, PAST
from tests.database import libpq_url, new_job
from tests.testing.conformance_kind import STEPS, InMemoryRun

QUEUES = ("a", "b")
LENGTH = 150

Heard = list[tuple[str, dict[str, Any]]]


class InMemoryListener:
    """Collects notifications of the in-memory connector."""

    def __init__(self, run: InMemoryRun, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._heard: Heard = []
        self._listening = runner.get_loop().create_task(
            run.connector.listen_notify(self._hear, [*channels.channels_for(None), *channels.channels_for(QUEUES)])
        )
        self.heard()

    async def _hear(self, *, channel: str, payload: str) -> None:
        self._heard.append((channel, json.loads(payload)))

    def heard(self) -> Heard:
        """Return the notifications since the last call."""
        for _ in range(3):
            self._runner.run(asyncio.sleep(0))
        heard, self._heard = self._heard, []
        return heard


class PostgreSQLListener:
    """Collects notifications of the database."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        for channel in (*channels.channels_for(None), *channels.channels_for(QUEUES)):
            connection.execute(f'LISTEN "{channel}"')

    def heard(self) -> Heard:
        """Return the notifications since the last call. A final marker message shows that all have arrived."""
        self._connection.execute("NOTIFY procrastinate_any_queue_v1, 'end'")
        heard: Heard = []
        for notification in self._connection.notifies(timeout=10):
            if notification.payload == "end":
                return heard
            heard.append((notification.channel, json.loads(notification.payload)))
        raise AssertionError("not even our own message arrived")


@dataclasses.dataclass
class Both:
    """Runs each operation on both sides, and compares the results."""

    memory: Run
    postgresql: Run
    memory_listener: InMemoryListener
    postgresql_listener: PostgreSQLListener
    _last_id: int = 0
    log: list[Any] = dataclasses.field(default_factory=list)

    def __call__(self, operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.log.append((operation.__name__, args, kwargs))
        result = self.memory(operation, *args, **kwargs)
        expected = self.postgresql(operation, *args, **kwargs)
        assert _comparable(result) == _comparable(expected), "\n".join(map(str, self.log[-80:]))
        return expected

    def compare_all(self) -> None:
        """Compare all columns of all jobs, their histories, the ticks, the workers and the notifications."""
        rows = self(list_rows)
        self(list_events)
        for count in (core.count_by_queue, core.count_by_task, core.count_by_lock):
            self(count, JobFilter())
        self(steps.list_workers)
        self(steps.list_tick_jobs)
        assert sorted(self.memory_listener.heard(), key=str) == sorted(self.postgresql_listener.heard(), key=str)
        self._last_id = max([self._last_id, *(row["id"] for row in rows)])
        self.postgresql(_set_next_id, self._last_id + 1)


def list_rows(connection: sa.Connection) -> list[dict[str, Any]]:
    """List all columns of all jobs, as an operation."""
    rows = connection.execute(sa.select(jobs).order_by(jobs.c.id)).mappings()
    return [{**row, "status": row["status"].value} for row in rows]


@STEPS.of(list_rows)
def list_rows_in_memory(tables: Tables) -> list[dict[str, Any]]:
    no_workflow = {"workflow_id": None, "step": None, "meta": None, "trace_context": None}
    rows = tables.where(matching())
    return [{**no_workflow, **row, **dataclasses.asdict(tables.progress(row["id"]))} for row in rows]


def list_events(connection: sa.Connection) -> dict[int, list[str]]:
    """List the histories of all jobs, as an operation."""
    found: dict[int, list[str]] = {}
    for event in connection.execute(sa.select(events).order_by(events.c.id)):
        found.setdefault(event.job_id, []).append(event.type.value)
    return found


@STEPS.of(list_events)
def list_events_in_memory(tables: Tables) -> dict[int, list[str]]:
    return {job_id: [event["type"] for event in history] for job_id, history in tables.events.items()}


def _set_next_id(connection: sa.Connection, next_id: int) -> None:
    """Set the next job id, because refused jobs use up ids in PostgreSQL."""
    steps.query(connection, "SELECT setval(pg_get_serial_sequence('procrastinate_jobs', 'id'), :id, false)", id=next_id)


def _comparable(value: Any) -> Any:
    """Return the comparable part of a value: times of the two clocks differ, and times given by the test are equal."""
    if isinstance(value, datetime.datetime):
        return value if value in (PAST, FUTURE) else "now"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.compare]
        return {name: _comparable(getattr(value, name)) for name in fields}
    if isinstance(value, dict):
        return {name: _comparable(item) for name, item in value.items()}
    if isinstance(value, list):
        if any(isinstance(item, RescuedJob) for item in value):  # Rescued jobs are unordered.
            value = sorted(value, key=lambda job: job.id)
        return [_comparable(item) for item in value]
    return "seconds until then" if isinstance(value, float) else value


class Story:
    """A random series of operations on a queue."""

    def __init__(self, run: Both, seed: int) -> None:
        self._run = run
        self._random = random.Random(seed)
        self._workers = [run(core.register_worker)]
        self._fetched: list[StoredJob] = []
        self._ticks = 0

    def go_on(self) -> None:
        """Run one random step."""
        happenings: dict[Callable[[], object], int] = {
            self._defer: 8,
            self._defer_many: 2,
            self._defer_tick: 1,
            self._promote: 8,
            self._fetch: 8,
            self._finish: 6,
            self._retry: 3,
            self._release: 3,
            self._retry_by_hand: 2,
            self._finish_by_id: 1,
            self._cancel: 3,
            self._reschedule: 2,
            self._lose_worker: 1,
            self._rescue: 2,
            self._take_stock: 1,
            self._orphan: 1,
            self._sweep: 2,
            self._forget: 1,
            self._list: 1,
        }
        (happening,) = self._random.choices(list(happenings), weights=list(happenings.values()))
        happening()

    def _new_job(self) -> core.NewJob:
        choose = self._random.choice
        return new_job(
            queue_name=choose(QUEUES),
            task_name=choose("xy"),
            priority=choose((0, 0, 1, -1)),
            lock=choose((None, "l", "m", "")),
            queueing_lock=choose((None, None, "q", "r")),
            scheduled_at=choose((None, None, PAST, FUTURE)),
        )

    def _some_id(self) -> int:
        found = self._run(core.list_jobs, JobFilter())
        return self._random.choice(found).id if found else 0

    def _held(self) -> list[StoredJob]:
        """Return some jobs that one worker has fetched. It may have lost some of them."""
        worker_id = self._random.choice(self._workers)
        mine = [job for job in self._fetched if job.worker_id == worker_id]
        return self._random.sample(mine, min(len(mine), 3))

    def _defer(self) -> None:
        job = self._new_job()
        if self._run(core.defer_job, job) is None:
            self._run(core.find_taken_queueing_lock, [job.queueing_lock])

    def _defer_many(self) -> None:
        """Defer several jobs. Only the last may be refused, because a refused job uses up an id in PostgreSQL."""
        new_jobs = [self._new_job() for _ in range(3)]
        if self._random.random() < 0.5:
            self._run(core.defer_jobs_or_none, new_jobs)
        else:
            *first, last = new_jobs
            self._run(core.defer_jobs, [*(dataclasses.replace(job, queueing_lock=None) for job in first), last])

    def _defer_tick(self) -> None:
        self._ticks += self._random.choice((0, 1))
        self._run(core.defer_tick, self._new_job(), periodic_id="p", defer_timestamp=self._ticks)

    def _promote(self) -> None:
        self._run(core.promote_jobs)

    def _fetch(self) -> None:
        queues = self._random.choice((None, ["a"], ["a", "b"], ["b"]))
        worker_id, limit = self._random.choice(self._workers), self._random.choice((1, 2, 5))
        self._fetched += self._run(core.fetch_jobs, worker_id=worker_id, limit=limit, queues=queues)

    def _finish(self) -> None:
        held = self._held()
        if held:
            statuses = (Status.SUCCEEDED, Status.FAILED, Status.ABORTED)
            outcomes = [
                FinishedJob(
                    id=job.id,
                    attempts=job.attempts,
                    status=self._random.choice(statuses),
                    delete=self._random.random() < 0.2,
                )
                for job in held
            ]
            self._run(core.finish_jobs, outcomes, worker_id=held[0].worker_id)

    def _retry(self) -> None:
        held = self._held()
        if held:
            retries = [
                JobRetry(
                    id=job.id,
                    attempts=job.attempts,
                    retry_at=self._random.choice((None, PAST, FUTURE)),
                    priority=self._random.choice((None, 2)),
                    queue_name=self._random.choice((None, "b")),
                    lock=self._random.choice((None, "m")),
                )
                for job in held
            ]
            self._run(core.retry_jobs, retries, worker_id=held[0].worker_id)

    def _release(self) -> None:
        held = self._held()
        if held:
            fetched = [core.FetchedJob(id=job.id, attempts=job.attempts) for job in held]
            keep = self._random.random() < 0.8
            released = self._run(core.release_jobs, fetched, worker_id=held[0].worker_id, keep_queueing_locks=keep)
            # A worker forgets released jobs, and they are fetched again with the same attempt number.
            self._fetched = [job for job in self._fetched if job.id not in released]

    def _retry_by_hand(self) -> None:
        self._run(core.retry_job_by_id, self._some_id(), retry_at=PAST, lock=self._random.choice((None, "l")))

    def _finish_by_id(self) -> None:
        delete = self._random.choice((False, True))
        self._run(core.finish_job_by_id, self._some_id(), status=Status.SUCCEEDED, delete=delete)

    def _cancel(self) -> None:
        abort, delete = self._random.choice((False, True)), self._random.choice((False, True))
        self._run(core.cancel_job, self._some_id(), abort=abort, delete=delete)

    def _reschedule(self) -> None:
        if job_id := self._some_id():
            self._run(steps.write_columns, job_id, {"scheduled_at": self._random.choice((PAST, FUTURE))})

    def _lose_worker(self) -> None:
        self._run(core.unregister_worker, self._workers.pop(0))
        self._workers.append(self._run(core.register_worker))

    def _rescue(self) -> None:
        self._run(core.list_stalled_jobs, seconds_since_heartbeat=60)
        self._run(core.rescue_jobs, max_rescues=1)

    def _take_stock(self) -> None:
        known_ids = [job.id for job in self._held()]
        worker_id = self._random.choice(self._workers)
        self._run(core.return_unknown_jobs, worker_id=worker_id, known_ids=known_ids, max_rescues=1)

    def _orphan(self) -> None:
        for job in self._run(core.list_jobs, JobFilter(status=Status.TODO))[:2]:
            if job.lock is not None:
                self._run(steps.write_columns, job.id, {"readiness": Readiness.PARKED})

    def _sweep(self) -> None:
        self._run(core.sweep_parked_jobs, limit=self._random.choice((1, 5)))

    def _forget(self) -> None:
        if job_id := self._some_id():
            self._run(steps.write_columns, job_id, {"finished_at": PAST})
        self._run(core.delete_finished_jobs, older_than=HOUR, statuses=[Status.SUCCEEDED, Status.FAILED])

    def _list(self) -> None:
        self._run(core.list_jobs, JobFilter(queue_name="a", status=Status.TODO), limit=2, after_id=1)
        self._run(core.list_jobs_to_abort, queue_name="b")
        self._run(core.list_jobs_started_before, seconds=3600)


@pytest.fixture
def both(engine: sa.Engine, database_url: str) -> Iterator[Both]:
    """Yield an empty database and empty in-memory tables."""
    memory = InMemoryRun()
    with asyncio.Runner() as runner, psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        yield Both(memory, SyncRun(engine), InMemoryListener(memory, runner), PostgreSQLListener(connection))


@pytest.mark.parametrize("seed", range(3))
def test_the_same_happens_in_memory_as_on_postgresql(both: Both, seed: int) -> None:
    story = Story(both, seed)
    for _ in range(LENGTH):
        story.go_on()
        both.compare_all()
