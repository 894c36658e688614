"""Looking at jobs, one by one and counted."""

from __future__ import annotations

from typing import Any

import pytest

from procrastinate import core
from procrastinate.core import (
    GroupKind,
    JobCounts,
    JobFilter,
    NewDependency,
    NewGraph,
    NewGroup,
    NewStep,
    Rule,
    Status,
)
from tests.conformance.runs import Run
from tests.conformance.steps import defer, fetch_one, finish, worker
from tests.database import new_job


def counts(name: str | None, **by_status: int) -> JobCounts:
    """Counts with zeros where nothing is said."""
    zeros = dict.fromkeys(("todo", "doing", "succeeded", "failed", "cancelled", "aborted"), 0)
    return JobCounts(name=name, jobs_count=sum(by_status.values()), **(zeros | by_status))


@pytest.fixture
def ids(run: Run) -> list[int]:
    """Four jobs: a failed one, a running one, a cancelled one, a waiting one."""
    worker_id = worker(run)
    ids = [
        defer(run, queue_name="a", task_name="x", lock="l", queueing_lock="p"),
        defer(run, queue_name="b", task_name="x"),
        defer(run, queue_name="a", task_name="y", lock="l"),
        defer(run, queue_name="b", task_name="y", queueing_lock="q"),
    ]
    finish(run, fetch_one(run, worker_id), status=Status.FAILED)
    fetch_one(run, worker_id)
    run(core.cancel_job, ids[2])
    return ids


@pytest.mark.parametrize(
    ("criteria", "found"),
    [
        ({}, [0, 1, 2, 3]),
        ({"id": 2}, [1]),
        ({"queue_name": "a"}, [0, 2]),
        ({"task_name": "y"}, [2, 3]),
        ({"status": Status.FAILED}, [0]),
        ({"status": Status.ABORTING}, []),
        ({"lock": "l"}, [0, 2]),
        ({"queueing_lock": "q"}, [3]),
        ({"worker_id": 1}, [0, 1]),
        ({"queue_name": "b", "status": Status.TODO}, [3]),
    ],
    ids=str,
)
def test_jobs_are_listed_by_criteria(run: Run, ids: list[int], criteria: dict[str, Any], found: list[int]) -> None:
    assert [job.id for job in run(core.list_jobs, JobFilter(**criteria))] == [ids[place] for place in found]


@pytest.mark.parametrize(
    "criteria",
    [{"queue_name": "\ud800"}, {"task_name": "x\0"}, {"lock": "\ud800"}, {"worker_id": 2**63}, {"id": -(2**70)}],
    ids=ascii,
)
def test_a_criterion_that_no_row_can_have_finds_no_job(run: Run, ids: list[int], criteria: dict[str, Any]) -> None:
    assert run(core.list_jobs, JobFilter(**criteria)) == []
    assert run(core.count_by_queue, JobFilter(**criteria)) == []


def test_a_queue_whose_name_no_row_can_have_has_no_abort_requests_and_no_pause(run: Run) -> None:
    assert run(core.list_jobs_to_abort, queue_name="\ud800") == []
    assert run(core.resume_queue, "a\0") is False


def test_jobs_are_listed_in_pages(run: Run, ids: list[int]) -> None:
    first = run(core.list_jobs, JobFilter(), limit=3)
    second = run(core.list_jobs, JobFilter(), limit=3, after_id=first[-1].id)
    assert [[job.id for job in page] for page in (first, second)] == [ids[:3], ids[3:]]


def test_jobs_are_counted_by_queue(run: Run, ids: list[int]) -> None:
    assert run(core.count_by_queue, JobFilter()) == [
        counts("a", failed=1, cancelled=1),
        counts("b", doing=1, todo=1),
    ]


def test_jobs_are_counted_by_task(run: Run, ids: list[int]) -> None:
    assert run(core.count_by_task, JobFilter()) == [
        counts("x", failed=1, doing=1),
        counts("y", cancelled=1, todo=1),
    ]


def test_jobs_are_counted_by_lock(run: Run, ids: list[int]) -> None:
    assert run(core.count_by_lock, JobFilter()) == [counts("l", failed=1, cancelled=1)]


def test_jobs_that_match_are_counted(run: Run, ids: list[int]) -> None:
    assert run(core.count_by_queue, JobFilter(task_name="x", status=Status.FAILED)) == [counts("a", failed=1)]


def test_succeeded_and_aborted_jobs_are_counted(run: Run) -> None:
    worker_id = worker(run)
    for status in (Status.SUCCEEDED, Status.ABORTED):
        defer(run)
        finish(run, fetch_one(run, worker_id), status=status)
    assert run(core.count_by_queue, JobFilter()) == [counts("default", succeeded=1, aborted=1)]


def test_a_step_that_waits_is_listed_with_the_latest_time(run: Run) -> None:
    graph = NewGraph(
        if_failed="cancel",
        groups=(NewGroup(kind=GroupKind.WORKFLOW, name="w"),),
        steps=tuple(NewStep(job=new_job(), step=name, group=0, waits=name == "last") for name in ("first", "last")),
        dependencies=(NewDependency(step=1, rule=Rule.SUCCESS, parent_step=0),),
    )
    run(core.create_workflow, graph)
    first, last = run(core.list_jobs, JobFilter())
    assert first.scheduled_at is None
    assert last.scheduled_at is not None, "a copy that a program defers would start at once"
    assert last.scheduled_at.year == 9999
