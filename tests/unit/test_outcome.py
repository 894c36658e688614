"""What becomes of a job: pure decisions."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate.app import App
from procrastinate.job_context import AbortReason
from procrastinate.jobs import DeleteJobCondition, Job, Status
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from procrastinate.tasks import Task
from procrastinate.worker.run.outcome import Outcome, RunResult, decide
from tests.unit.recording import make_job

AnyTask = Task[Any, Any, Any]
CANCELLED = asyncio.CancelledError()
ABORTED = exceptions.JobAborted()
ERROR = ValueError("Nope")


@pytest.fixture
def once(app: App) -> AnyTask:
    """A task that is not tried again."""
    return app.task(name="once")(lambda: None)


@pytest.fixture
def again(app: App) -> AnyTask:
    """A task that is tried again."""
    return app.task(name="again", retry=True)(lambda: None)


def status(task: AnyTask | None, exception: BaseException | None, reason: AbortReason | None = None) -> Status:
    return decide(make_job(), task, RunResult(exception=exception, abort_reason=reason)).status


def test_a_task_that_returned_has_succeeded(once: AnyTask) -> None:
    assert status(once, None) is Status.SUCCEEDED


@pytest.mark.parametrize("reason", list(AbortReason))
def test_even_when_it_was_asked_to_stop(once: AnyTask, again: AnyTask, reason: AbortReason) -> None:
    assert status(once, None, reason) is Status.SUCCEEDED
    assert status(again, None, reason) is Status.SUCCEEDED


@pytest.mark.parametrize("error", [ERROR, SystemExit(), KeyboardInterrupt(), RecursionError(), CANCELLED])
def test_one_that_raised_has_failed_or_is_tried_again(once: AnyTask, again: AnyTask, error: BaseException) -> None:
    assert status(once, error) is Status.FAILED
    assert status(again, error) is Status.TODO


class Decides(BaseRetryStrategy):
    def __init__(self, decision: Any) -> None:
        self.decision = decision

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> Any:
        return self.decision


class DecidesLater(BaseRetryStrategy):
    def get_retry_decision(self, *, exception: BaseException, job: Job) -> Any:
        return self._decide()

    async def _decide(self) -> RetryDecision:
        return RetryDecision()


NO_DECISIONS = [Decides(5), Decides("soon"), Decides(True), Decides(datetime.timedelta(seconds=1)), DecidesLater()]


@pytest.mark.parametrize("strategy", NO_DECISIONS)
def test_a_strategy_that_decides_nothing_is_an_error_that_names_the_task(app: App, strategy: BaseRetryStrategy) -> None:
    task = app.task(name="odd", retry=strategy)(lambda: None)
    with pytest.raises(TypeError, match="The retry strategy of task odd returned a"):
        status(task, ERROR)


@pytest.mark.parametrize("decision", [None, False, 0])
def test_a_job_whose_strategy_decides_against_a_retry_has_failed(app: App, decision: Any) -> None:
    assert status(app.task(name="odd", retry=Decides(decision))(lambda: None), ERROR) is Status.FAILED


@pytest.mark.parametrize("error", [CANCELLED, ABORTED])
def test_one_that_stopped_on_request_is_aborted_whatever_its_retry_strategy(
    once: AnyTask, again: AnyTask, error: BaseException
) -> None:
    assert status(once, error, AbortReason.USER_REQUEST) is Status.ABORTED
    assert status(again, error, AbortReason.USER_REQUEST) is Status.ABORTED


@pytest.mark.parametrize("reason", [None, AbortReason.TIMEOUT, AbortReason.SHUTDOWN])
def test_one_that_was_out_of_time_has_raised(once: AnyTask, again: AnyTask, reason: AbortReason | None) -> None:
    assert status(once, exceptions.TaskTimeout(), reason) is Status.FAILED
    assert status(again, exceptions.TaskTimeout(), reason) is Status.TODO


def test_a_job_out_of_time_that_a_user_had_asked_to_stop_is_aborted(again: AnyTask) -> None:
    assert status(again, exceptions.TaskTimeout(), AbortReason.USER_REQUEST) is Status.ABORTED


def test_one_may_abort_of_its_own_accord(again: AnyTask) -> None:
    assert status(again, ABORTED) is Status.ABORTED


@pytest.mark.parametrize("error", [CANCELLED, ABORTED])
def test_one_that_stopped_because_the_worker_does_is_tried_again(
    once: AnyTask, again: AnyTask, error: BaseException
) -> None:
    assert status(once, error, AbortReason.SHUTDOWN) is Status.ABORTED
    assert status(again, error, AbortReason.SHUTDOWN) is Status.TODO


def test_one_that_failed_while_it_was_asked_to_stop_has_failed(once: AnyTask) -> None:
    assert status(once, ERROR, AbortReason.USER_REQUEST) is Status.FAILED


def test_without_a_task_it_has_failed() -> None:
    assert status(None, exceptions.TaskNotFound()) is Status.FAILED


def test_the_strategy_sees_the_exception_and_the_job(app: App) -> None:
    seen: list[Any] = []

    class Curious(BaseRetryStrategy):
        def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
            seen.extend([exception, job])
            return None

    task = app.task(name="task", retry=Curious())(lambda: None)
    job = make_job(attempts=4)
    outcome = decide(job, task, RunResult(exception=ERROR))
    assert (outcome.status, outcome.exception) == (Status.FAILED, ERROR)
    assert seen == [ERROR, job]


def test_an_end_is_recorded_for_the_attempt_that_was_fetched() -> None:
    finished = Outcome(job=make_job(id=3, attempts=2), status=Status.FAILED).as_finished(DeleteJobCondition.ALWAYS)
    assert (finished.id, finished.attempts, finished.status, finished.delete) == (3, 2, Status.FAILED, True)


def test_a_retry_is_recorded_as_it_was_decided() -> None:
    noon = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)
    decision = RetryDecision(retry_at=noon, priority=1, queue="q", lock="l")
    outcome = Outcome(job=make_job(id=3, attempts=2), status=Status.TODO, retry_decision=decision)
    retry = outcome.as_retry()
    assert (retry.id, retry.attempts, retry.retry_at, retry.retry_in) == (3, 2, noon, None)
    assert (retry.priority, retry.queue_name, retry.lock) == (1, "q", "l")


def test_a_retry_after_a_wait_is_recorded_as_a_wait() -> None:
    decision = RetryDecision(retry_in={"seconds": 5})
    retry = Outcome(job=make_job(), status=Status.TODO, retry_decision=decision).as_retry()
    assert (retry.retry_at, retry.retry_in) == (None, 5)


def test_a_retry_that_cannot_be_written_becomes_a_failure() -> None:
    outcome = Outcome(job=make_job(), status=Status.TODO, exception=ERROR, retry_decision=RetryDecision())
    assert outcome.without_retry() == Outcome(job=make_job(), status=Status.FAILED, exception=ERROR)
