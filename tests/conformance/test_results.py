"""Stored results: the return value, the errors and the progress of a job."""

from __future__ import annotations

import contextlib
import json

import pytest

from procrastinate import core
from procrastinate.core import EventType, FinishedJob, JobRetry, NewError, Status, StoredJob, StoredResult
from tests.conformance.runs import Run
from tests.conformance.steps import (
    HOUR,
    PAST,
    Rollback,
    change,
    count_details,
    defer,
    fetch,
    fetch_one,
    finish,
    stored,
    worker,
)

BROKEN = NewError(exception_class="builtins.ValueError", message="broken: ä€", traceback="Traceback ...\n 100% %s :x")


def end(run: Run, job: StoredJob, status: Status = Status.SUCCEEDED, **details: object) -> set[int]:
    """Record the outcome of a job, with its result and errors."""
    assert job.worker_id is not None
    outcome = FinishedJob(id=job.id, attempts=job.attempts, status=status, **details)  # type: ignore[arg-type]
    return run(core.finish_jobs, [outcome], worker_id=job.worker_id)


def retry(run: Run, job: StoredJob, error: NewError | None = BROKEN, **options: bool) -> dict[int, Status]:
    """Retry a job after an error."""
    assert job.worker_id is not None
    back = JobRetry(id=job.id, attempts=job.attempts, error=error)
    return run(core.retry_jobs, [back], worker_id=job.worker_id, **options)


def result_of(run: Run, job_id: int) -> StoredResult:
    """Return the stored result of an existing job."""
    result = run(core.get_result, job_id)
    assert result is not None
    return result


@pytest.mark.parametrize("value", ["null", "0", '"text"', '{"a": [1, 2.5, null], "ä": "€ 100% %s :x"}', "[]", "false"])
def test_a_return_value_is_kept_with_its_job(run: Run, value: str) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    assert end(run, job, result=value) == {job.id}
    result = result_of(run, job.id)
    assert result.value is not None
    assert json.loads(result.value) == json.loads(value)
    assert (result.job, result.errors) == (stored(run, job.id), ())
    assert result.finished_at is not None


def test_a_job_that_keeps_nothing_leaves_nothing_behind(run: Run) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    end(run, job)
    assert (result_of(run, job.id).value, result_of(run, job.id).errors) == (None, ())
    assert run(count_details) == (0, 0)


def test_the_error_of_each_attempt_is_kept(run: Run) -> None:
    worker_id = worker(run)
    defer(run)
    assert retry(run, fetch_one(run, worker_id)) == {1: Status.TODO}
    other_worker = worker(run)
    end(run, fetch_one(run, other_worker), Status.FAILED, error=BROKEN)
    first, second = result_of(run, 1).errors
    assert (first.attempt, first.worker_id) == (1, worker_id)
    assert (second.attempt, second.worker_id) == (2, other_worker)
    for error in (first, second):
        assert (
            NewError(exception_class=error.exception_class, message=error.message, traceback=error.traceback) == BROKEN
        )
        assert error.at is not None


@pytest.mark.parametrize(("newest", "attempts"), [(0, []), (1, [2]), (5, [1, 2]), (None, [1, 2])])
def test_a_result_is_read_with_the_newest_errors_only(run: Run, newest: int | None, attempts: list[int]) -> None:
    worker_id = worker(run)
    defer(run)
    for _ in range(2):
        retry(run, fetch_one(run, worker_id))
    whole, result = result_of(run, 1), run(core.get_result, 1, newest_errors=newest)
    assert result is not None
    assert [error.attempt for error in result.errors] == attempts
    assert result.job == whole.job
    for type_ in (EventType.DEFERRED, EventType.STARTED):
        of_type = [[one.at for one in read.events if one.type is type_] for read in (whole, result)]
        assert [(moments[0], moments[-1]) for moments in of_type] == [(of_type[0][0], of_type[0][-1])] * 2


def test_a_retry_without_its_queueing_lock_keeps_its_error_too(run: Run) -> None:
    defer(run, queueing_lock="q")
    retry(run, fetch_one(run, worker(run)), keep_queueing_locks=False)
    assert [error.attempt for error in result_of(run, 1).errors] == [1]


def test_a_batch_may_hold_all_kinds_of_outcomes(run: Run) -> None:
    worker_id = worker(run)
    for _ in range(4):
        defer(run)
    plain, kept, failed, deleted = fetch(run, worker_id)
    outcomes = [
        FinishedJob(id=plain.id, attempts=0, status=Status.SUCCEEDED),
        FinishedJob(id=kept.id, attempts=0, status=Status.SUCCEEDED, result="1"),
        FinishedJob(id=failed.id, attempts=0, status=Status.FAILED, error=BROKEN),
        FinishedJob(id=deleted.id, attempts=0, status=Status.SUCCEEDED, result="2", error=BROKEN, delete=True),
    ]
    assert run(core.finish_jobs, outcomes, worker_id=worker_id) == {plain.id, kept.id, failed.id, deleted.id}
    assert [result_of(run, job.id).value for job in (plain, kept, failed)] == [None, "1", None]
    assert run(core.get_result, deleted.id) is None
    assert run(count_details) == (1, 1)


def test_retries_with_and_without_an_error_go_together(run: Run) -> None:
    worker_id = worker(run)
    defer(run)
    defer(run)
    first, second = fetch(run, worker_id)
    retries = [JobRetry(id=first.id, attempts=0, error=BROKEN), JobRetry(id=second.id, attempts=0)]
    assert run(core.retry_jobs, retries, worker_id=worker_id) == {first.id: Status.TODO, second.id: Status.TODO}
    assert [len(result_of(run, job.id).errors) for job in (first, second)] == [1, 0]


def test_many_large_results_are_recorded_in_one_call(run: Run) -> None:
    """The results exceed the limit of one statement."""
    worker_id = worker(run)
    run(core.defer_jobs, [core.NewJob(queue_name="q", task_name="t", args="{}")] * 10)
    text = json.dumps("x" * 1_000_000)
    outcomes = [
        FinishedJob(id=job.id, attempts=0, status=Status.SUCCEEDED, result=text) for job in fetch(run, worker_id)
    ]
    assert run(core.finish_jobs, outcomes, worker_id=worker_id) == {job.id for job in outcomes}
    assert result_of(run, outcomes[-1].id).value == text


def test_a_refused_outcome_leaves_nothing_behind(run: Run) -> None:
    """The outcome is another worker's, or that of an earlier attempt."""
    worker_id = worker(run)
    defer(run)
    first = fetch_one(run, worker_id)
    assert run(core.retry_job_by_id, first.id)
    second = fetch_one(run, worker_id)
    assert end(run, first, result="1", error=BROKEN) == set()
    assert retry(run, first) == {}
    outcome = FinishedJob(id=second.id, attempts=second.attempts, status=Status.SUCCEEDED, result="1", announce=True)
    assert run(core.finish_jobs, [outcome], worker_id=worker(run)) == set()
    assert run(count_details) == (0, 0)
    assert end(run, second, result="2") == {second.id}
    assert result_of(run, second.id).value == "2"


@pytest.mark.needs_database(reason="nothing is rolled back in memory")
def test_what_is_rolled_back_leaves_nothing_behind(run: Run) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    with contextlib.suppress(Rollback), run.transaction():
        assert end(run, job, result="1", error=BROKEN) == {job.id}
        raise Rollback
    assert run(count_details) == (0, 0)


def test_a_deleted_job_takes_its_result_and_errors_along(run: Run) -> None:
    worker_id = worker(run)
    for _ in range(2):
        defer(run)
        retry(run, fetch_one(run, worker_id))
        end(run, fetch_one(run, worker_id), result="1")
    change(run, 1, finished_at=PAST)
    assert run(core.delete_finished_jobs, older_than=HOUR, statuses=[Status.SUCCEEDED]) == 1
    assert run(count_details) == (1, 1)
    assert result_of(run, 2).value == "1"


def test_the_history_comes_with_the_result(run: Run) -> None:
    worker_id = worker(run)
    defer(run)
    retry(run, fetch_one(run, worker_id))
    end(run, fetch_one(run, worker_id))
    events = result_of(run, 1).events
    started = EventType.STARTED
    expected = [EventType.DEFERRED, started, EventType.DEFERRED_FOR_RETRY, EventType.SCHEDULED, started]
    assert [event.type for event in events] == [*expected, EventType.SUCCEEDED]
    assert all(event.at is not None for event in events)


def test_nothing_is_known_of_a_job_that_is_not_there(run: Run) -> None:
    assert run(core.get_result, 12345) is None
    assert run(core.get_progress, 12345) is None


def test_how_far_a_job_has_come(run: Run) -> None:
    job_id = defer(run)
    assert run(core.get_progress, job_id) == core.Progress(status=Status.TODO, is_uncommitted=False)
    finish(run, fetch_one(run, worker(run)))
    assert run(core.get_progress, job_id) == core.Progress(status=Status.SUCCEEDED, is_uncommitted=False)


@pytest.mark.needs_database(reason="there are no transactions in memory")
def test_a_job_of_the_callers_own_transaction_is_known_as_such(run: Run) -> None:
    before = defer(run)
    with contextlib.suppress(Rollback), run.transaction():
        own = defer(run)
        for job_id, is_uncommitted in ((before, False), (own, True)):
            assert run(core.get_progress, job_id) == core.Progress(status=Status.TODO, is_uncommitted=is_uncommitted)
        raise Rollback


def test_a_large_batch_announces_every_finished_job(run: Run) -> None:
    worker_id = worker(run)
    run(core.defer_jobs, [core.NewJob(queue_name="q", task_name="t", args="{}")] * 700)
    outcomes = [
        FinishedJob(id=job.id, attempts=0, status=Status.SUCCEEDED, announce=True)
        for job in fetch(run, worker_id, limit=700)
    ]
    assert len(run(core.finish_jobs, outcomes, worker_id=worker_id)) == 700


def test_a_rescue_keeps_that_the_worker_was_lost(run: Run) -> None:
    lost = worker(run)
    defer(run)
    fetch_one(run, lost)
    run(core.unregister_worker, lost)
    run(core.rescue_jobs, max_rescues=1)
    unknown = worker(run)
    fetch_one(run, unknown)
    run(core.return_unknown_jobs, worker_id=unknown, known_ids=[], max_rescues=1)
    first, second = result_of(run, 1).errors
    assert ((first.attempt, first.worker_id), (second.attempt, second.worker_id)) == ((1, lost), (2, unknown))
    assert {first.exception_class, second.exception_class} == {"procrastinate.exceptions.WorkerLost"}
    assert "is gone" in first.message
    assert "answer" in second.message
    assert first.traceback == f"procrastinate.exceptions.WorkerLost: {first.message}\n"
