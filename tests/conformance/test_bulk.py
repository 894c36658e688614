"""Operations on all jobs that match a search."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from procrastinate.core import Status, bulk
from procrastinate.core.inspection import Count, JobSearch, JobState
from tests.conformance.runs import Run
from tests.conformance.steps import column, defer, fetch, fetch_one, finish, query, worker

pytestmark = pytest.mark.needs_database(reason="bulk operations have no in-memory form")

FAILED = JobSearch(state=JobState.FAILED)


def fail(run: Run, count: int, **job: str) -> list[int]:
    """Make jobs that failed."""
    ids = [defer(run, **job) for _ in range(count)]
    finish(run, *fetch(run, worker(run), limit=count), status=Status.FAILED)
    return ids


def statuses(run: Run, ids: list[int]) -> set[str]:
    """Return the statuses of jobs."""
    return {str(column(run, one, "status").value) for one in ids}


def work(run: Run, operation_id: int) -> bulk.BulkOperation:
    """Run all steps of an operation."""
    while run(bulk.step_bulk_operation, operation_id):
        pass
    (operation,) = run(bulk.load_bulk_operations, operation_id)
    return operation


def test_all_failed_jobs_of_a_task_are_retried(run: Run) -> None:
    chosen = fail(run, 3, task_name="shop.send")
    others = fail(run, 2, task_name="shop.print")
    search = JobSearch(state=JobState.FAILED, task="shop.send")
    assert run(bulk.count_matching_jobs, search) == Count(number=3)
    operation = work(run, run(bulk.start_bulk_operation, "retry", search, requested_by="ada", expected=3))
    assert (operation.state, operation.changed, operation.skipped, operation.part) == ("done", 3, 0, 1.0)
    assert (operation.search, operation.requested_by) == (search, "ada")
    assert statuses(run, chosen) == {"todo"}
    assert statuses(run, others) == {"failed"}


EVERY_CRITERION = JobSearch(
    state=JobState.RUNNING,
    queue="q",
    task="t",
    lock="k",
    queueing_lock="a",
    worker_id=7,
    word="w",
    args='{"a": 1}',
    error="E",
    without_tasks=("b", "c"),
    ended_since="2030-01-01T00:00:00+00:00",
    deferred_since="2030-01-01T00:00:00+00:00",
)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(JobSearch) if field.name != "state"])
def test_each_criterion_of_a_search_is_stored(run: Run, name: str) -> None:
    """A lost criterion would change other jobs than the preview shows. Zero and an empty text are criteria, too."""
    chosen = getattr(EVERY_CRITERION, name)
    empty = chosen if name.endswith("_since") else {"worker_id": 0, "without_tasks": ("",)}.get(name, "")
    for value in (chosen, empty):
        search = JobSearch(state=JobState.FAILED, **{name: value})
        operation_id = run(bulk.start_bulk_operation, "retry", search)
        (operation,) = run(bulk.load_bulk_operations, operation_id)
        assert operation.search == search


def test_a_search_with_all_criteria_is_stored(run: Run) -> None:
    operation_id = run(bulk.start_bulk_operation, "abort", EVERY_CRITERION)
    (operation,) = run(bulk.load_bulk_operations, operation_id)
    assert operation.search == EVERY_CRITERION


@pytest.mark.parametrize("criterion", [{"worker_id": 0}, {"queue": ""}, {"task": ""}, {"lock": ""}, {"error": ""}])
def test_a_search_for_zero_or_an_empty_name_changes_no_other_job(run: Run, criterion: dict[str, Any]) -> None:
    ids = [defer(run) for _ in range(2)]
    fetch(run, worker(run), limit=2)
    search = JobSearch(state=JobState.RUNNING, **criterion)
    assert run(bulk.count_matching_jobs, search) == Count(number=0)
    assert work(run, run(bulk.start_bulk_operation, "abort", search)).changed == 0
    assert not any(column(run, one, "abort_requested") for one in ids)


def test_jobs_that_match_later_are_left_alone(run: Run) -> None:
    first = fail(run, 1)
    operation_id = run(bulk.start_bulk_operation, "delete", FAILED)
    later = fail(run, 1)
    assert work(run, operation_id).changed == 1
    assert run(query, "SELECT id FROM procrastinate_jobs ORDER BY id") == [(later[0],)]
    assert first != later


def test_a_step_changes_a_limited_number_of_jobs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHANGED_AT_ONCE", 2)
    fail(run, 5)
    operation_id = run(bulk.start_bulk_operation, "retry", FAILED)
    assert run(bulk.step_bulk_operation, operation_id)
    (operation,) = run(bulk.load_bulk_operations, operation_id)
    assert (operation.state, operation.changed) == ("running", 2)
    assert 0 < operation.part < 1
    assert work(run, operation_id).changed == 5


def test_an_operation_is_cancelled_before_its_next_step(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHANGED_AT_ONCE", 1)
    ids = fail(run, 3)
    operation_id = run(bulk.start_bulk_operation, "retry", FAILED)
    run(bulk.step_bulk_operation, operation_id)
    assert run(bulk.cancel_bulk_operation, operation_id)
    assert not run(bulk.step_bulk_operation, operation_id)
    assert not run(bulk.cancel_bulk_operation, operation_id)
    (operation,) = run(bulk.load_bulk_operations)
    assert (operation.state, operation.is_over, operation.changed) == ("cancelled", True, 1)
    assert statuses(run, ids) == {"todo", "failed"}


def test_a_job_that_cannot_be_changed_is_skipped(run: Run) -> None:
    defer(run)
    fetch_one(run, worker(run))
    operation = work(run, run(bulk.start_bulk_operation, "retry", JobSearch(state=JobState.RUNNING)))
    assert (operation.changed, operation.skipped) == (0, 1)


@pytest.mark.parametrize(("operation", "search"), [("drop", FAILED), ("retry", JobSearch())])
def test_an_operation_needs_a_kind_and_a_state(run: Run, operation: str, search: JobSearch) -> None:
    with pytest.raises(ValueError, match="needs a state"):
        run(bulk.start_bulk_operation, operation, search)
