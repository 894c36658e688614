"""Observers and integrations learn what the database has recorded of a job, also of jobs that end without a run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from procrastinate import core, exceptions
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.app import App
from procrastinate.contrib.sentry import ProcrastinateIntegration
from procrastinate.core import Status
from procrastinate.otel import instrument
from procrastinate.retry import RetryStrategy
from procrastinate.testing import Jobs
from tests import database
from tests.worker.otel_sdk import exporter, reader, runs, spans, value
from tests.worker.running import Queue, Workers, WorkerThread, happens, until
from tests.worker.test_ends_of_runs import Ends, ends, raises, returns
from tests.worker.test_prefetch import ahead, patient
from tests.worker.test_sentry import start, without_sentry

assert all((ahead, ends, exporter, patient, reader, spans, without_sentry))


def refuse_retries(queue: Queue, code: str = "22003") -> None:
    """Add a user's trigger that refuses to let a job wait again."""
    queue.sql(
        "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$"
    )
    queue.sql(
        "CREATE TRIGGER refuses BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW "
        "WHEN (OLD.status = 'doing' AND NEW.status = 'todo') EXECUTE FUNCTION refuses()"
    )


async def test_a_retry_that_the_database_refuses_is_told_as_the_failure_that_it_becomes(
    app: App, workers: Workers, queue: Queue, ends: Ends, reader: InMemoryMetricReader, spans: InMemorySpanExporter
) -> None:
    """Sentry also gets the log record that says that the database refuses something."""
    instrument(app)
    kept = start()
    refuse_retries(queue)
    job_id = await app.task(name="refused", retry=RetryStrategy(max_attempts=5))(raises).defer_async()
    await workers.run(**app.worker_defaults)
    assert queue.status(job_id) is Status.FAILED
    assert ends == [("refused", "failed", "ValueError")]
    (event,) = [one for one in kept.events if "exception" in one]
    assert event["exception"]["values"][-1]["type"] == "ValueError"
    run = kept.run_of("refused")
    assert run["contexts"]["trace"]["status"] == "internal_error"
    assert event["contexts"]["trace"]["trace_id"] == run["contexts"]["trace"]["trace_id"]
    assert [(span.attributes or {})["messaging.procrastinate.outcome"] for span in runs(spans)] == ["failed"]
    assert value(reader, "procrastinate.job.retries", "refused") == []


async def test_a_retry_after_a_request_to_abort_is_told_as_it_is_recorded(
    app: App, workers: Workers, queue: Queue, ends: Ends
) -> None:
    """The request comes while the job raises, so the worker has decided to retry."""

    @app.task(name="t", retry=RetryStrategy(max_attempts=5))
    def task() -> None:
        queue.sql("UPDATE procrastinate_jobs SET abort_requested = true")
        raise ValueError

    job_id = await task.defer_async()
    await workers.run()
    recorded = queue.status(job_id)
    assert recorded is not None
    assert recorded is not Status.TODO
    assert ends == [("t", recorded.value, "ValueError")]


async def test_a_retry_after_a_request_to_abort_is_told_as_recorded_while_the_loop_is_blocked(
    app: App, queue: Queue, engine: sa.Engine, database_url: str, ends: Ends
) -> None:
    """Another thread records the outcome, because a task blocks the event loop."""
    thread = WorkerThread(app, database_url, concurrency=2, prefetch=False, abort_job_polling_interval=600)
    is_running, may_end, release = asyncio.Event(), asyncio.Event(), threading.Event()

    @app.task(name="fails", retry=1)
    async def fails() -> None:
        is_running.set()
        await may_end.wait()
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE procrastinate_jobs SET abort_requested = true WHERE task_name = 'fails'")
        raise LookupError

    @app.task(name="block")
    async def block() -> None:
        await is_running.wait()
        may_end.set()
        await asyncio.sleep(0)
        release.wait(60)

    failing, _ = [await one.defer_async() for one in (fails, block)]
    thread.start()
    try:
        recorded = await queue.reaches(failing, Status.ABORTED, Status.FAILED, Status.SUCCEEDED)
    finally:
        release.set()
        await thread.stopped()
    assert ("fails", recorded.value, "LookupError") in ends


async def test_an_outcome_of_a_job_that_is_no_longer_held_is_told_as_lost(
    app: App, workers: Workers, queue: Queue, ends: Ends
) -> None:
    kept = start()

    @app.task(name="t")
    def task() -> None:
        queue.sql("UPDATE procrastinate_jobs SET status = 'cancelled', worker_id = NULL")
        raise ValueError

    await task.defer_async()
    await workers.run()
    assert ends == [("t", "doing", None)]
    assert kept.events == []
    assert kept.run_of("t")["contexts"]["trace"]["status"] == "aborted"


class LosesTheAnswer(WorkerConnector):
    """A connector that loses the answer to the first record, after the database has executed it."""

    to_lose = 1

    def get_worker_connector(self) -> WorkerConnector:
        return self

    async def run_async(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        answer = await super().run_async(operation, *args, **kwargs)
        if operation is core.finish_jobs and self.to_lose:
            self.to_lose -= 1
            raise exceptions.DatabaseUnavailable("The connection was lost")
        return answer


@contextlib.asynccontextmanager
async def losing(app: App, database_url: str) -> AsyncIterator[LosesTheAnswer]:
    """Let the app use such a connector."""
    connector = LosesTheAnswer(database.libpq_url(database_url))
    with app.replace_connector(connector):
        await connector.open_async()
        yield connector
        await connector.close_async()


async def test_a_failure_whose_record_was_not_answered_is_told_all_the_same(
    app: App, workers: Workers, queue: Queue, ends: Ends, database_url: str
) -> None:
    """The second write finds that the worker no longer holds the job."""
    job_id = await app.task(name="t")(raises).defer_async()
    async with losing(app, database_url) as connector:
        await workers.run()
    assert (connector.to_lose, queue.status(job_id)) == (0, Status.FAILED)
    assert ends == [("t", "failed", "ValueError")]


async def test_a_run_is_told_after_its_record_and_lasts_no_longer_for_that(
    app: App, workers: Workers, queue: Queue, ends: Ends, spans: InMemorySpanExporter
) -> None:
    """A user's trigger makes the record last a second."""
    kept = start()
    instrument(app)
    await app.task(name="t")(returns).defer_async()
    queue.sql(
        "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN NEW; END $$"
    )
    queue.sql(
        "CREATE TRIGGER waits BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW "
        "WHEN (OLD.status = 'doing') EXECUTE FUNCTION waits()"
    )
    await workers.run(**app.worker_defaults)
    assert ends == [("t", "succeeded", None)]
    (span,) = runs(spans)
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time < 900_000_000
    (process,) = [one for one in kept.run_of("t")["spans"] if one["op"] == "queue.process"]
    assert process["timestamp"][:19] <= kept.run_of("t")["timestamp"][:19]


async def test_an_outcome_that_a_worker_cannot_record_is_told_when_the_worker_ends(
    app: App, workers: Workers, queue: Queue, ends: Ends
) -> None:
    refuse_retries(queue, "23505")
    await app.task(name="t", retry=RetryStrategy(max_attempts=5))(raises).defer_async()
    running = workers.start()
    await until(lambda: queue.statuses() == {"doing": 1})
    await asyncio.sleep(0.3)
    assert ends == []
    await running.stopped()
    assert ends == [("t", "doing", None)]


# Jobs that end without a run


async def test_a_job_that_was_rescued_too_often_is_one_event_and_no_transaction(
    app: App, workers: Workers, queue: Queue, ends: Ends, spans: InMemorySpanExporter
) -> None:
    """The log record about it is no second event."""
    kept = start()
    instrument(app)
    job_id = await app.configure_task("lost", queue="default").defer_async(card="4242")
    await app.configure_task("aborted").defer_async()
    waits_again = await app.configure_task("rescued", queue="other").defer_async()
    queue.sql(
        "UPDATE procrastinate_jobs SET status = 'doing', abort_requested = task_name = 'aborted', attempts = 3, "
        "rescues = CASE task_name WHEN 'lost' THEN 9 ELSE 0 END"
    )
    await workers.run(queues=["default"], **app.worker_defaults)
    assert queue.status(waits_again) is Status.TODO
    assert sorted(ends) == [("aborted", "aborted", "WorkerLost"), ("lost", "failed", "WorkerLost")]
    (event,) = kept.events
    assert event["exception"]["values"][-1]["type"] == "WorkerLost"
    assert "rescues" in event["exception"]["values"][-1]["value"]
    assert event["tags"]["procrastinate_job_id"] == str(job_id)
    context = event["contexts"]["procrastinate-job"]
    assert (context["task"], context["attempt"], context["arguments"]) == ("lost", 4, "[Filtered]")
    assert kept.transactions == []
    (span,) = runs(spans)
    attributes = span.attributes or {}
    assert attributes["messaging.message.id"] == str(job_id)
    assert (attributes["messaging.procrastinate.outcome"], attributes["error.type"]) == (
        "failed",
        "procrastinate.exceptions.WorkerLost",
    )


async def test_a_job_whose_arguments_do_not_fit_is_one_event(app: App, workers: Workers, queue: Queue) -> None:
    """They are of another signature, or no object at all."""
    kept = start()
    job_ids = [await app.configure_task("takes a").defer_async(b=1) for _ in range(2)]
    app.task(name="takes a")(lambda a: None)
    await queue.ddl("ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER")
    queue.sql("UPDATE procrastinate_jobs SET args = '[1]' WHERE id = :id", id=job_ids[1])
    await workers.run()
    assert queue.statuses() == {"failed": 2}
    assert sorted(event["exception"]["values"][-1]["type"] for event in kept.events) == ["InvalidJob", "TypeError"]


async def test_a_job_that_keeps_killing_its_workers_is_one_event_of_the_one_that_gives_it_up(
    app: App, workers: Workers, queue: Queue
) -> None:
    """Each process dies in the middle of the job, as after a fault of a C library."""
    kept = start(integration=ProcrastinateIntegration())
    job_id = await app.configure_task("crashes").defer_async()
    for _ in range(2):
        worker_id = -os.getpid()  # a worker that no row names
        queue.sql("UPDATE procrastinate_jobs SET status = 'doing', worker_id = :worker", worker=worker_id)
        await workers.run(max_rescues=1, unknown_task_timeout=60, queues=["none"])
    assert queue.status(job_id) is Status.FAILED
    assert [event["contexts"]["procrastinate-job"]["task"] for event in kept.events] == ["crashes"]


@pytest.mark.usefixtures("patient")
async def test_a_prefetched_job_that_is_aborted_has_no_transaction(app: App, workers: Workers, queue: Queue) -> None:
    kept = start()
    begun, may_end = asyncio.Event(), asyncio.Event()

    @app.task(name="first")
    async def first() -> None:
        begun.set()
        await may_end.wait()

    first_id = await first.defer_async()
    second = await app.task(name="prefetched")(returns).defer_async()
    await workers.listening(queue, concurrency=1)
    await happens(begun)
    assert await app.job_manager.cancel_job_by_id_async(second, abort=True)
    await queue.reaches(second, Status.ABORTED)
    may_end.set()
    await queue.succeeded(first_id)
    await until(lambda: kept.transactions)
    assert [one["transaction"] for one in kept.transactions] == ["first"]


# Several apps, and tests of users


async def test_an_app_that_is_not_instrumented_sends_nothing(
    app: App, workers: Workers, spans: InMemorySpanExporter, reader: InMemoryMetricReader
) -> None:
    """Its worker runs in the same process as that of an app that is instrumented."""
    instrument(App(connector=app.connector), worker_spans=True)
    app.task(name="of another app", retry=RetryStrategy(max_attempts=1))(raises)
    await app.configure_task("of another app").defer_async()
    await app.configure_task("unknown").defer_async()
    await workers.run(unknown_task_timeout=0)
    assert spans.get_finished_spans() == ()
    assert value(reader, "procrastinate.job.retries", "of another app") == []


async def test_a_copy_of_an_instrumented_app_is_instrumented(
    app: App, workers: Workers, spans: InMemorySpanExporter
) -> None:
    instrument(app, span_naming="task")
    copy = await workers.another_app()
    await app.configure_task("unknown").defer_async()
    await workers.start(copy, wait=False, unknown_task_timeout=0).ended()
    assert [span.name for span in runs(spans)] == ["process unknown"]


async def test_jobs_that_a_test_runs_are_told(app: App, ends: Ends) -> None:
    app.task(name="t", retry=RetryStrategy(max_attempts=1))(raises)
    await app.configure_task("t").defer_async()
    with Jobs(app) as jobs:
        await jobs.run_async(raise_errors=False)
    assert ends == [("t", "todo", "ValueError"), ("t", "failed", "ValueError")]
