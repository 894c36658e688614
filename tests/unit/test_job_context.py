"""What a task can know of its job."""

from __future__ import annotations

import dataclasses

import pytest

from procrastinate.app import App
from procrastinate.job_context import AbortReason, JobContext, JobResult
from tests.unit.recording import make_job


@pytest.fixture
def context(app: App) -> JobContext:
    app.task(name="task")(lambda: None)
    return JobContext(app=app, worker_name="worker", job=make_job())


def test_the_task_is_found_by_the_job(context: JobContext, app: App) -> None:
    assert context.task is app.tasks["task"]


def test_queues_can_be_read(context: JobContext) -> None:
    assert context.queues_display == "all queues"
    assert context.evolve(worker_queues=("a", "b")).queues_display == "queues a, b"


def test_a_job_is_not_asked_to_stop_until_it_is(context: JobContext) -> None:
    assert (context.abort_reason(), context.should_abort()) == (None, False)
    asked = context.evolve(abort_reason=lambda: AbortReason.SHUTDOWN)
    assert (asked.abort_reason(), asked.should_abort()) == (AbortReason.SHUTDOWN, True)


def test_evolve_copies(context: JobContext) -> None:
    other = context.evolve(worker_name="other")
    assert (context.worker_name, other.worker_name, other.job) == ("worker", "other", context.job)


def test_a_context_cannot_be_changed(context: JobContext) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        context.worker_name = "other"  # type: ignore[misc]


def test_a_result_of_a_run_that_goes_on() -> None:
    result = JobResult(start_timestamp=10)
    assert result.duration(15) == 5
    assert result.as_dict().keys() == {"start_timestamp", "duration"}


def test_a_result_of_a_run_that_has_ended() -> None:
    result = JobResult(start_timestamp=10, end_timestamp=12, result="done")
    assert result.duration(15) == 2
    assert result.as_dict() == {"start_timestamp": 10, "end_timestamp": 12, "duration": 2, "result": "done"}
