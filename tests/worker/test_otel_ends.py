"""Spans and metrics at the end of runs and of workers, and the statements that have no spans."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from opentelemetry import baggage, propagate, trace
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from procrastinate import worker_observers
from procrastinate.app import App
from procrastinate.otel import instrument
from procrastinate.retry import RetryStrategy
from tests import database
from tests.worker.otel_sdk import exporter, points, reader, runs, spans, value, without_observers
from tests.worker.running import Queue, Workers, happens, until
from tests.worker.test_ends_of_runs import cut

assert all((exporter, reader, spans, without_observers))


async def test_a_collector_that_does_not_answer_does_not_block_the_event_loop(
    app: App, workers: Workers, monkeypatch: pytest.MonkeyPatch, exporter: InMemorySpanExporter
) -> None:
    """The exporter waits for the event loop. The worker ends although the exporter never does."""
    loop, turned = asyncio.get_running_loop(), threading.Event()
    has_turned: list[bool] = []

    def hang(milliseconds: int) -> None:
        loop.call_soon_threadsafe(turned.set)
        has_turned.append(turned.wait(10))
        threading.Event().wait(30)

    monkeypatch.setattr(worker_observers, "LONGEST_END", 0.2)
    monkeypatch.setattr(trace.get_tracer_provider(), "force_flush", hang)
    instrument(app)
    await app.task(name="last")(lambda: None).defer_async()
    await workers.run()
    assert has_turned == [True]


async def test_the_span_of_a_run_tells_what_becomes_of_the_job(
    app: App, workers: Workers, spans: InMemorySpanExporter
) -> None:
    """A result that cannot be stored is a failure, and so is an unknown task."""
    instrument(app)
    app.task(name="returns", store_result=True)(lambda: object())
    app.task(name="raises", retry=RetryStrategy(max_attempts=1))(lambda: 1 / 0)
    app.task(name="works")(lambda: None)
    for name in ("returns", "raises", "works", "unknown"):
        await app.configure_task(name).defer_async()
    await workers.run(unknown_task_timeout=0, **app.worker_defaults)
    found = [(span.attributes or {}, span.status.status_code) for span in runs(spans)]
    told = sorted(
        (
            str(one["messaging.procrastinate.task"]),
            str(one["messaging.procrastinate.outcome"]),
            str(one.get("error.type")),
        )
        for one, _ in found
    )
    assert told == [
        ("raises", "failed", "ZeroDivisionError"),
        ("raises", "retried", "ZeroDivisionError"),
        ("returns", "failed", "procrastinate.exceptions.InvalidResult"),
        ("unknown", "failed", "procrastinate.exceptions.TaskNotFound"),
        ("works", "succeeded", "None"),
    ]
    assert [code for one, code in found if one["messaging.procrastinate.outcome"] == "failed"] == [StatusCode.ERROR] * 3


async def test_a_run_that_its_worker_cuts_short_ends_its_span(
    app: App, workers: Workers, spans: InMemorySpanExporter, reader: InMemoryMetricReader
) -> None:
    """One job swallows its cancellation, and one ends by it."""
    instrument(app)
    begun, may_end = [asyncio.Event(), asyncio.Event()], asyncio.Event()

    @app.task(name="cut stubborn")
    async def stubborn() -> None:
        begun[0].set()
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_end.wait()

    @app.task(name="cut")
    async def obedient() -> None:
        begun[1].set()
        await may_end.wait()

    await stubborn.defer_async()
    await obedient.defer_async()
    running = workers.start(concurrency=2, **app.worker_defaults)
    for event in begun:
        await happens(event)
    await cut(running)
    ends = {str((span.attributes or {})["messaging.procrastinate.task"]): span for span in runs(spans)}
    outcomes = {name: (span.attributes or {})["messaging.procrastinate.outcome"] for name, span in ends.items()}
    assert outcomes == {"cut stubborn": "lost", "cut": "retried"}
    assert {span.status.status_code for span in ends.values()} == {StatusCode.UNSET}
    may_end.set()
    await until(lambda: value(reader, "procrastinate.jobs.in_flight", "cut stubborn") == [0])
    assert value(reader, "procrastinate.jobs.in_flight", "cut") == [0]
    assert value(reader, "procrastinate.job.retries", "cut") == [1]
    assert value(reader, "procrastinate.job.retries", "cut stubborn") == []
    assert len(runs(spans)) == 2


async def test_the_baggage_of_a_defer_reaches_the_task(app: App, workers: Workers, spans: InMemorySpanExporter) -> None:
    instrument(app)
    seen: list[object] = []
    app.task(name="t")(lambda: seen.append(baggage.get_baggage("tenant")))
    token = otel_context.attach(baggage.set_baggage("tenant", "acme"))
    await app.configure_task("t").defer_async()
    otel_context.detach(token)
    await workers.run(**app.worker_defaults)
    assert seen == ["acme"]


async def test_the_wait_is_recorded_without_a_trace(
    app: App, workers: Workers, reader: InMemoryMetricReader, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program has set up metrics and no traces. Plain SQL tells when a job is due, and no more."""
    monkeypatch.setattr(propagate, "inject", lambda carrier: None)
    instrument(app)
    app.task(name="waited")(lambda: None)
    app.task(name="waited since")(lambda: None)
    await app.configure_task("waited").defer_async()
    insert = "INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at) VALUES ('default', 'waited since', "
    queue.sql(f"{insert} now() - interval '1 hour')")
    queue.sql(f"{insert} NULL)")
    await workers.run(**app.worker_defaults)
    waits = {
        point.attributes["messaging.procrastinate.task"]: point
        for point in points(reader)["procrastinate.job.wait.duration"]
    }
    assert (waits["waited"].count, waits["waited"].max < 60) == (1, True)
    assert (waits["waited since"].count, waits["waited since"].max > 3599) == (1, True)


async def test_instrumentation_makes_no_spans_of_the_statements_of_a_worker(
    database_url: str, spans: InMemorySpanExporter
) -> None:
    """The statements of the task, and of the program that defers, have spans."""
    instrumentors = [SQLAlchemyInstrumentor(), PsycopgInstrumentor()]
    for one in instrumentors:
        one.instrument(tracer_provider=trace.get_tracer_provider(), skip_dep_check=True)
    try:
        of_defer, of_worker = await _run_instrumented(database_url, spans)
    finally:
        for one in instrumentors:
            with contextlib.suppress(sa.exc.InvalidRequestError):  # it does not find listeners of engines that are gone
                one.uninstrument()
    assert any("INSERT INTO procrastinate_jobs" in statement for statement in _statements(of_defer))
    run = next(span for span in of_worker if span.kind is SpanKind.CONSUMER)
    assert run.context is not None
    assert {span.parent.span_id if span.parent else None for span in of_worker if span is not run} == {
        run.context.span_id
    }
    assert set(_statements(of_worker)) == {"SELECT 42"}


def _statements(found: Sequence[ReadableSpan]) -> list[str]:
    attributes = [span.attributes or {} for span in found]
    return [str(one["db.statement"]) for one in attributes if "db.statement" in one]


async def _run_instrumented(
    database_url: str, spans: InMemorySpanExporter
) -> tuple[Sequence[ReadableSpan], Sequence[ReadableSpan]]:
    """Defer a job with an engine of the program, and run it with a worker that waits for notifications.

    Returns
    -------
    The spans of the defer, and those of the worker.
    """
    engine = sa.create_engine(database.driver_url(database_url, "psycopg"))
    app = App(connector=engine)
    instrument(app)
    done = asyncio.Event()

    @app.task(name="asks")
    async def asks() -> None:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 42"))
        done.set()

    async with app.open_async():
        await asks.defer_async()
        of_defer = spans.get_finished_spans()
        spans.clear()
        worker = asyncio.create_task(app.run_worker_async(install_signal_handlers=False, update_heartbeat_interval=0.1))
        await happens(done)
        await asyncio.sleep(0.5)  # heartbeats
        worker.cancel()
        await asyncio.wait({worker})
    engine.dispose()
    return of_defer, spans.get_finished_spans()
