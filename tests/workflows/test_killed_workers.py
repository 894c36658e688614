"""Worker processes that run a large workflow are killed at any statement, and it ends as the model says."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.app import App
from procrastinate.core import NewJob, Status
from tests.conformance.runs import SyncRun
from tests.database import new_job
from tests.worker.running import Queue
from tests.workflows.model import Planned, expected, large_graph, to_graph

SEED = 7
SIZE = 200
KILLS = 8
_OPEN = """
SELECT (SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))
    + (SELECT count(*) FROM procrastinate_workflows WHERE finished_at IS NULL)
"""
"""A worker finishes the group after the end of its last job."""
_STARTS = "CREATE TABLE starts (job_id bigint, at timestamptz DEFAULT clock_timestamp())"
_TOO_EARLY = """
SELECT starts.job_id FROM starts
JOIN procrastinate_dependencies AS edge ON edge.job_id = starts.job_id
JOIN procrastinate_jobs AS parent ON parent.id = edge.parent_id OR parent.workflow_id = edge.parent_workflow_id
WHERE edge.job_id = ANY (:steps) AND ( parent.finished_at IS NULL OR parent.finished_at > starts.at)
"""
_MORE_THAN_ONE_END = """
SELECT job_id FROM procrastinate_events
WHERE type IN ('succeeded', 'failed', 'cancelled', 'aborted') GROUP BY job_id HAVING count(*) > 1
"""


class DyingWorkers:
    """Two workers, each of which is replaced when it has died. After a number of kills, they live."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._random = random.Random(SEED)
        self._running: list[subprocess.Popen[bytes]] = []
        self.started = 0

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Kill what still runs at the end."""
        try:
            self.replace()
            yield
        finally:
            for process in self._running:
                process.kill()
                process.wait()

    def replace(self) -> None:
        """Start a worker for each that is missing."""
        self._running = [process for process in self._running if process.poll() is None]
        while len(self._running) < 2:
            statements = self._random.randint(10, 60) if self.started < KILLS else 0
            program = [sys.executable, "-m", "tests.workflows.dying_worker", self._url, str(statements)]
            self._running.append(subprocess.Popen(program, stderr=subprocess.DEVNULL))
            self.started += 1


def job_of(steps: Sequence[Planned], place: int) -> NewJob:
    """Return the job of a step or, after the last step, of a callback."""
    step = steps[place] if place < len(steps) else None
    args = {"end": step.end.value if step else "succeeded", "retries": step.retries if step else 0}
    return new_job(task_name="step", args=json.dumps(args))


@pytest.mark.timeout(240)
def test_a_large_graph_ends_as_the_model_says_although_its_workers_are_killed(
    app: App, queue: Queue, engine: sa.Engine, database_url: str
) -> None:
    queue.sql(_STARTS)
    steps = large_graph(SEED, SIZE)
    run = SyncRun(engine)
    stored = run(core.create_workflow, to_graph(steps, lambda place: job_of(steps, place)))
    last_runs = {stored.job_ids[place]: step.retries for place, step in enumerate(steps) if step.end is Status.ABORTED}
    workers = DyingWorkers(database_url)
    deadline = time.monotonic() + 200
    with workers.at_work():
        while queue.sql(_OPEN):
            assert time.monotonic() < deadline, "It does not end"
            workers.replace()
            for job in run(core.list_jobs, core.JobFilter(status=Status.DOING)):
                # A run that ends with a retry after the request has failed, and is not aborted.
                if job.attempts >= last_runs.get(job.id, 1000) and not job.abort_requested:
                    app.job_manager.cancel_job_by_id(job.id, abort=True)
            time.sleep(0.05)
    assert workers.started > KILLS
    statuses = {job.id: job.status for job in run(core.list_jobs, core.JobFilter())}
    ends = zip(stored.job_ids, expected(steps), strict=True)
    assert [(job_id, statuses[job_id], end) for job_id, end in ends if statuses[job_id] is not end] == []
    assert queue.connection.exec_driver_sql(_MORE_THAN_ONE_END).all() == []
    assert queue.connection.execute(sa.text(_TOO_EARLY), {"steps": list(stored.job_ids[:SIZE])}).all() == []
    assert queue.sql(_OPEN) == 0
