"""Random graphs end as a simple model says, whatever workers do and lose on the way."""

from __future__ import annotations

import os
import random
from collections import Counter

import hypothesis
import sqlalchemy as sa
from hypothesis import strategies as st

from procrastinate import core
from procrastinate.core import FinishedJob, JobRetry, Status
from tests.conformance.runs import SyncRun
from tests.workflows.model import Planned, expected, graphs, to_graph

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
_TABLES = ", ".join(table.name for table in core.metadata.sorted_tables)


def _delete_job(connection: sa.Connection, job_id: int) -> None:
    connection.exec_driver_sql("DELETE FROM procrastinate_jobs WHERE id = %s", (job_id,))


class Play:
    """Runs one graph with two workers that fail, retry, die and come back, in an order that a seed decides.

    Some of the steps that wait or are ready are deleted on the way.
    """

    def __init__(self, run: SyncRun, steps: list[Planned], seed: int) -> None:
        self.run = run
        self.steps = steps
        self.random = random.Random(seed)
        self.stored = run(core.create_workflow, to_graph(steps))
        self.place = {job_id: place for place, job_id in enumerate(self.stored.job_ids)}
        self.runs: Counter[int] = Counter()
        self.ended: set[int] = set()
        self.deleted: set[int] = set()
        self.workers = [run(core.register_worker) for _ in range(2)]
        self.held: dict[int, list[core.StoredJob]] = {worker: [] for worker in self.workers}

    def statuses(self) -> list[Status | None]:
        """Return the statuses of the steps, in order. A deleted one has none."""
        jobs = {job.id: job.status for job in self.run(core.list_jobs, core.JobFilter())}
        return [jobs.get(job_id) for job_id in self.stored.job_ids]

    def play(self) -> None:
        """Do random things until nothing is left to do."""
        idle = 0
        while idle < 3:
            moves = [self.resolve, self.fetch, self.finish, self.finish]
            if self.random.random() < 0.1:
                moves.append(self.die)
            if self.random.random() < 0.03:
                moves.append(self.delete)
            self.random.shuffle(moves)
            has_moved = [move() for move in moves]
            idle = 0 if any(has_moved) else idle + 1

    def resolve(self) -> bool:
        """Let the next steps go, as a worker does."""
        self.run(core.promote_jobs)
        return self.run(core.resolve_arrivals).taken > 0

    def fetch(self) -> bool:
        """Fetch a few jobs, whose parents must have ended."""
        worker = self.random.choice(self.workers)
        fetched = self.run(core.fetch_jobs, worker_id=worker, limit=self.random.randint(1, 4))
        for job in fetched:
            self._check_parents(self.place[job.id])
        self.held[worker] += fetched
        return bool(fetched)

    def _check_parents(self, place: int) -> None:
        statuses = self.statuses()
        open_ones = {number for number, status in enumerate(statuses) if status in (Status.TODO, Status.DOING)}
        if place >= len(self.steps):
            assert not open_ones & set(range(len(self.steps)))
            return
        step = self.steps[place]
        members = {number for number, one in enumerate(self.steps) if one.group in step.groups}
        assert not open_ones & (set(step.steps) | members)

    def finish(self) -> bool:
        """End or retry what one worker holds."""
        worker = self.random.choice(self.workers)
        held, self.held[worker] = self.held[worker], []
        finished, retries = [], []
        for job in held:
            place = self.place[job.id]
            step = self.steps[place] if place < len(self.steps) else None
            self.runs[job.id] += 1
            if step is not None and self.runs[job.id] <= step.retries:
                retries.append(JobRetry(id=job.id, attempts=job.attempts))
            else:
                status = Status.SUCCEEDED if step is None else step.end
                finished.append(FinishedJob(id=job.id, attempts=job.attempts, status=status))
        recorded = self.run(core.finish_jobs, finished, worker_id=worker)
        assert recorded == {job.id for job in finished}
        assert not recorded & self.ended
        self.ended |= recorded
        self.run(core.retry_jobs, retries, worker_id=worker)
        return bool(held)

    def delete(self) -> bool:
        """Delete a step that has not started, with plain SQL."""
        waiting = [place for place, status in enumerate(self.statuses()) if status is Status.TODO]
        waiting = [place for place in waiting if place < len(self.steps)]
        if not waiting:
            return False
        place = self.random.choice(waiting)
        self.deleted.add(place)
        self.run(_delete_job, self.stored.job_ids[place])
        return True

    def die(self) -> bool:
        """Lose a worker with what it holds, and let another one rescue the jobs."""
        worker = self.random.choice(self.workers)
        lost = bool(self.held[worker])
        self.run(core.unregister_worker, worker)
        self.run(core.rescue_jobs, max_rescues=1000)
        self.workers.remove(worker)
        del self.held[worker]
        self.workers.append(self.run(core.register_worker))
        self.held[self.workers[-1]] = []
        return lost


@hypothesis.settings(
    max_examples=200 if LONG else 15,
    deadline=None,
    derandomize=not LONG,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(steps=graphs(max_steps=60 if LONG else 25), seed=st.integers(0, 10**6))
def test_a_random_graph_ends_as_the_model_says(engine: sa.Engine, steps: list[Planned], seed: int) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE {_TABLES} RESTART IDENTITY")
    play = Play(SyncRun(engine), steps, seed)
    play.play()
    assert play.statuses() == expected(steps, play.deleted)
    with engine.connect() as connection:
        open_groups = "SELECT count(*) FROM procrastinate_workflows WHERE finished_at IS NULL"
        assert connection.exec_driver_sql(open_groups).scalar_one() == 0
        assert connection.exec_driver_sql("SELECT count(*) FROM procrastinate_arrivals").scalar_one() == 0
