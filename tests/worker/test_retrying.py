"""Retries of failed jobs: their time, queue and number."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from procrastinate._checks.times import utcnow
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy, RetryDecision, RetryStrategy
from tests.worker.running import Queue, Workers


class Decide(BaseRetryStrategy):
    """A strategy that makes the given decision once."""

    def __init__(self, decision: RetryDecision) -> None:
        self.decision = decision

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        return self.decision if job.attempts == 0 else None


async def test_a_job_is_tried_again_until_it_works(app: App, workers: Workers, queue: Queue) -> None:
    attempts: list[int] = []

    @app.task(retry=5, pass_context=True)
    async def task(context: JobContext) -> None:
        attempts.append(context.job.attempts)
        if len(attempts) < 3:
            raise ValueError

    job_id = await task.defer_async()
    await workers.run()
    assert attempts == [0, 1, 2]
    assert queue.row(job_id)["attempts"] == 3
    assert queue.events(job_id) == [
        *("deferred", "started", "deferred_for_retry", "scheduled"),
        *("started", "deferred_for_retry", "scheduled"),
        *("started", "succeeded"),
    ]


async def test_a_retry_waits_and_starts_without_a_poll(app: App, workers: Workers, queue: Queue) -> None:
    class WaitABit(BaseRetryStrategy):
        def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
            return RetryDecision(retry_in={"milliseconds": 200}) if job.attempts < 2 else None

    @app.task(retry=WaitABit())
    def task() -> None:
        raise ValueError

    await workers.listening(queue)
    job_id = await task.defer_async()
    await queue.failed(job_id)
    assert queue.row(job_id)["attempts"] == 3
    waited = queue.sql(
        "SELECT max(at) - min(at) FROM procrastinate_events WHERE job_id = :id AND type = 'started'", id=job_id
    )
    assert waited >= datetime.timedelta(milliseconds=400)


async def test_a_long_wait_is_counted_by_the_clock_of_the_database(app: App, workers: Workers, queue: Queue) -> None:
    @app.task(retry=RetryStrategy(wait=3600))
    def task() -> None:
        raise ValueError

    job_id = await task.defer_async()
    await workers.run()
    away = queue.sql("SELECT scheduled_at - now() FROM procrastinate_jobs")
    assert datetime.timedelta(minutes=59) < away <= datetime.timedelta(hours=1)
    assert queue.status(job_id) is Status.TODO
    assert queue.row(job_id)["worker_id"] is None


async def test_a_wait_that_overflows_waits_to_the_end_of_time(app: App, workers: Workers, queue: Queue) -> None:
    @app.task(retry=RetryStrategy(exponential_wait=10**12))
    def task() -> None:
        raise ValueError

    job_id = await task.defer_async()
    await workers.run()
    assert queue.status(job_id) is Status.TODO
    assert queue.row(job_id)["scheduled_at"].year == 9999


async def test_a_retry_may_change_queue_lock_and_priority(app: App, workers: Workers, queue: Queue) -> None:
    at = utcnow() + datetime.timedelta(hours=1)
    decision = RetryDecision(retry_at=at, queue="slow", lock="other", priority=-3)

    @app.task(retry=Decide(decision), lock="one", queue="fast", priority=5)
    def task() -> None:
        raise ValueError

    job_id = await task.defer_async()
    after = await app.configure_task("after", lock="one", queue="fast").defer_async()
    app.task(name="after")(lambda: None)
    await workers.run()
    row = queue.row(job_id)
    assert (row["queue_name"], row["lock"], row["priority"]) == ("slow", "other", -3)
    assert row["scheduled_at"] == at
    assert queue.status(after) is Status.SUCCEEDED


async def test_a_retry_whose_queueing_lock_another_job_took_is_not_lost(
    app: App, workers: Workers, queue: Queue
) -> None:
    siblings: list[int] = []

    @app.task(queueing_lock="one", lock="one", retry=1, pass_context=True)
    async def task(context: JobContext, first: bool = False) -> None:
        if first and context.job.attempts == 0:
            siblings.append(await task.defer_async())
            raise ValueError

    job_id = await task.defer_async(first=True)
    await workers.run(concurrency=2)
    assert [queue.status(one) for one in (job_id, *siblings)] == [Status.SUCCEEDED, Status.SUCCEEDED]
    assert queue.row(job_id)["attempts"] == 2


def changed_decision(**attributes: Any) -> RetryDecision:
    """Return a decision whose values were changed after validation."""
    decision = RetryDecision()
    vars(decision).update(attributes)
    return decision


@pytest.mark.parametrize("decision", [changed_decision(queue="q" * 129), changed_decision(priority=2**40)])
async def test_a_retry_that_cannot_be_written_is_a_failure_and_delays_no_other_job(
    app: App, workers: Workers, queue: Queue, decision: RetryDecision, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(retry=Decide(decision))
    def wrong() -> None:
        raise ValueError

    @app.task(retry=1, pass_context=True)
    def right(context: JobContext) -> None:
        if context.job.attempts == 0:
            raise ValueError

    first, second = await wrong.defer_async(), await right.defer_async()
    await workers.run(concurrency=2)
    assert (queue.status(first), queue.status(second)) == (Status.FAILED, Status.SUCCEEDED)
    assert "record_outcome_refused" in [vars(record)["action"] for record in caplog.records]


async def test_a_strategy_that_raises_fails_the_job_alone(app: App, workers: Workers, queue: Queue) -> None:
    class Broken(BaseRetryStrategy):
        def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
            raise SystemExit if job.task_kwargs["exit"] else KeyError("Nope")

    @app.task(retry=Broken())
    def task(exit: bool) -> None:
        raise ValueError

    ids = await task.batch_defer_async({"exit": True}, {"exit": False})
    ids += [await app.task(name="after")(lambda: None).defer_async()]
    await workers.run()
    assert [queue.status(job_id) for job_id in ids] == [Status.FAILED, Status.FAILED, Status.SUCCEEDED]


@pytest.mark.parametrize("decision", [5, "soon", True, datetime.timedelta(seconds=1)])
async def test_a_strategy_that_decides_nothing_fails_the_job_alone(
    app: App, workers: Workers, queue: Queue, decision: Any
) -> None:
    @app.task(retry=Decide(decision))
    def bad() -> None:
        raise LookupError("the first error")

    bad_id = await bad.defer_async()
    good_id = await app.task(name="good")(lambda: None).defer_async()
    await workers.run()
    assert (queue.status(bad_id), queue.status(good_id)) == (Status.FAILED, Status.SUCCEEDED)
    (error,) = (await app.job_manager.get_result_async(bad_id)).errors
    assert "The retry strategy of task" in error.message
    assert "the first error" in error.traceback


async def test_a_failed_job_can_be_sent_back_by_hand(app: App, workers: Workers, queue: Queue) -> None:
    ran: list[int] = []

    @app.task(pass_context=True)
    async def task(context: JobContext) -> None:
        ran.append(context.job.attempts)
        if len(ran) == 1:
            raise ValueError

    await workers.listening(queue)
    job_id = await task.defer_async()
    await queue.failed(job_id)
    await app.job_manager.retry_job_by_id_async(job_id)
    await queue.succeeded(job_id)
    assert ran == [0, 1]
