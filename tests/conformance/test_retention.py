"""Forgetting finished jobs."""

from __future__ import annotations

import datetime
from typing import Any

from procrastinate import core
from procrastinate._checks.times import utcnow
from procrastinate.core import Status
from tests.conformance.runs import Run
from tests.conformance.steps import HOUR, change, defer, list_history, worker
from tests.database import new_job

ENDED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.ABORTED)
AT_ONCE = datetime.timedelta(0)


def end(run: Run, status: Status, *, hours_ago: int = 2, queue_name: str = "default") -> int:
    """A job that ended so long ago."""
    job_id = defer(run, queue_name=queue_name)
    run(core.finish_job_by_id, job_id, status=status, delete=False)
    change(run, job_id, finished_at=utcnow() - hours_ago * HOUR)
    return job_id


def remaining(run: Run) -> list[int]:
    """The ids of the jobs that are left."""
    return [job.id for job in run(core.list_jobs, core.JobFilter())]


def test_old_jobs_are_deleted_with_their_history(run: Run) -> None:
    old = end(run, Status.SUCCEEDED)
    young = end(run, Status.SUCCEEDED, hours_ago=0)
    assert run(core.delete_finished_jobs, older_than=HOUR, statuses=[Status.SUCCEEDED]) == 1
    assert remaining(run) == [young]
    assert (run(list_history, old), run(list_history, young)) == ([], ["deferred", "succeeded"])


def test_only_the_asked_statuses_are_deleted(run: Run) -> None:
    ids = {status: end(run, status) for status in ENDED}
    deleted = run(core.delete_finished_jobs, older_than=HOUR, statuses=[Status.SUCCEEDED, Status.ABORTED])
    assert deleted == 2
    assert remaining(run) == [ids[Status.FAILED], ids[Status.CANCELLED]]


def test_only_the_asked_queue_is_deleted_from(run: Run) -> None:
    end(run, Status.SUCCEEDED, queue_name="a")
    kept = end(run, Status.SUCCEEDED, queue_name="b")
    assert run(core.delete_finished_jobs, older_than=HOUR, statuses=ENDED, queue_name="a") == 1
    assert remaining(run) == [kept]


def test_a_deletion_gets_past_many_jobs_of_other_queues_that_ended_at_one_time(run: Run) -> None:
    """A statement of the user's may have ended them all. The deletion looks at 20 jobs at a time here."""
    at_one_time = utcnow() - 3 * HOUR
    kept = run(core.defer_jobs, [new_job(queue_name="a") for _ in range(50)])
    for job_id in kept:
        run(core.finish_job_by_id, job_id, status=Status.SUCCEEDED, delete=False)
        change(run, job_id, finished_at=at_one_time)
    end(run, Status.SUCCEEDED, queue_name="b")
    ended: dict[str, Any] = {"older_than": HOUR, "statuses": ENDED, "queue_name": "b", "limit": 1}
    deletions = [run(core.delete_finished_part, **ended)]
    while deletions[-1].next_place is not None and len(deletions) < 10:
        deletions.append(run(core.delete_finished_part, **ended, after=deletions[-1].next_place))
    assert deletions[-1].next_place is None
    assert remaining(run) == kept


def test_deletion_is_bounded(run: Run) -> None:
    for _ in range(3):
        end(run, Status.SUCCEEDED)
    assert [run(core.delete_finished_jobs, older_than=HOUR, statuses=ENDED, limit=2) for _ in range(3)] == [2, 1, 0]


def test_waiting_and_running_jobs_are_never_deleted(run: Run) -> None:
    ids = run(core.defer_jobs, [new_job(), new_job()])
    run(core.fetch_jobs, worker_id=worker(run), limit=1)
    assert run(core.delete_finished_jobs, older_than=AT_ONCE, statuses=list(Status)) == 0
    assert remaining(run) == ids


def test_no_statuses_are_no_jobs(run: Run) -> None:
    end(run, Status.SUCCEEDED)
    assert run(core.delete_finished_jobs, older_than=HOUR, statuses=[]) == 0
