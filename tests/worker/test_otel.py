"""Spans and durations of runs, from OpenTelemetry's own SDK."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import os
import pathlib
import subprocess
import sys
import threading
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from procrastinate.app import App
from procrastinate.defer_hooks import Defer
from procrastinate.exceptions import JobAborted
from procrastinate.logs import JsonFormatter
from procrastinate.otel import instrument, trace_defers, trace_runs
from procrastinate.retry import RetryStrategy
from procrastinate.testing import InMemoryConnector, Jobs
from procrastinate.unique import Unique
from tests import database
from tests.worker.otel_sdk import exporter, points, reader, runs, spans, value, without_observers
from tests.worker.running import Queue, Workers, connector_for

assert all((exporter, reader, spans, without_observers))

TRACED: dict[str, Any] = {"worker_middleware": [trace_runs]}


async def test_a_run_is_a_consumer_span_of_its_own_trace(
    app: App, workers: Workers, spans: InMemorySpanExporter
) -> None:
    job_id = await app.task(name="add", queue="sums")(lambda a: None).defer_async(a="secret")
    with trace.get_tracer("program").start_as_current_span("start the worker"):
        await workers.run(name="w1", **TRACED)
    (span,) = runs(spans)
    assert (span.name, span.parent, span.status.status_code) == ("process sums", None, StatusCode.UNSET)
    assert dict(span.attributes or {}) == {
        "messaging.system": "procrastinate",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "sums",
        "messaging.message.id": str(job_id),
        "messaging.client.id": "w1",
        "messaging.procrastinate.task": "add",
        "messaging.procrastinate.attempt": 1,
        "messaging.procrastinate.priority": 0,
    }


async def test_the_span_of_a_run_has_the_locks_the_schedule_and_the_wait_of_its_job(
    app: App, workers: Workers, spans: InMemorySpanExporter
) -> None:
    instrument(app)
    due = datetime.datetime.now(tz=datetime.UTC) - datetime.timedelta(seconds=30)
    app.task(name="t")(lambda: None)
    await app.configure_task("t", lock="order 7", queueing_lock="one", schedule_at=due).defer_async()
    await workers.run(**TRACED)
    (span,) = runs(spans)
    (defer,) = [span for span in spans.get_finished_spans() if span.kind is SpanKind.PRODUCER]
    assert dict(defer.attributes or {})["messaging.message.conversation_id"] == "order 7"
    attributes = dict(span.attributes or {})
    assert attributes["messaging.message.conversation_id"] == "order 7"
    assert attributes["messaging.procrastinate.queueing_lock"] == "one"
    assert datetime.datetime.fromisoformat(str(attributes["messaging.procrastinate.scheduled_at"])) == due
    waited = attributes["messaging.procrastinate.wait_time"]
    assert isinstance(waited, float)
    assert 0 <= waited < 30, "It starts with the defer, which is later than the schedule"


async def test_a_run_that_is_retried_has_an_event(app: App, workers: Workers, spans: InMemorySpanExporter) -> None:
    @app.task(name="t", retry=RetryStrategy(max_attempts=1))
    def task() -> None:
        raise ValueError

    instrument(app)
    await task.defer_async()
    await workers.run(**TRACED)
    first, second = runs(spans)
    assert [(event.name, dict(event.attributes or {})) for event in first.events] == [
        ("retry", {"messaging.procrastinate.attempt": 1})
    ]
    assert second.events == ()


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_what_a_task_does_belongs_to_the_trace_of_its_run(
    app: App, workers: Workers, spans: InMemorySpanExporter, is_async: bool
) -> None:
    lines: list[dict[str, Any]] = []

    def work() -> None:
        with trace.get_tracer("program").start_as_current_span("query"):
            lines.append(json.loads(JsonFormatter().format(logging.makeLogRecord({"msg": "hello"}))))

    async def work_async() -> None:
        await asyncio.to_thread(work)

    await app.task(name="add")(work_async if is_async else work).defer_async()
    await workers.run(**TRACED)
    (run,) = runs(spans)
    (inner,) = (span for span in spans.get_finished_spans() if span.name == "query")
    assert run.context is not None
    assert inner.context is not None
    assert inner.parent is not None
    assert inner.parent.span_id == run.context.span_id
    (line,) = lines
    assert (line["trace_id"], line["span_id"]) == (f"{run.context.trace_id:032x}", f"{inner.context.span_id:016x}")


async def test_each_attempt_that_raises_is_an_error_without_its_text(
    app: App, workers: Workers, spans: InMemorySpanExporter
) -> None:
    @app.task(name="divide", retry=RetryStrategy(max_attempts=1))
    def divide() -> None:
        raise ZeroDivisionError("secret")

    await divide.defer_async()
    await workers.run(**TRACED)
    assert [dict(span.attributes or {})["messaging.procrastinate.attempt"] for span in runs(spans)] == [1, 2]
    assert {span.status.status_code for span in runs(spans)} == {StatusCode.ERROR}
    assert {dict(span.attributes or {})["error.type"] for span in runs(spans)} == {"ZeroDivisionError"}
    assert "secret" not in "".join(span.to_json() for span in runs(spans))


async def test_an_abort_is_no_error(app: App, workers: Workers, spans: InMemorySpanExporter) -> None:
    @app.task(name="stop")
    def stop() -> None:
        raise JobAborted

    await stop.defer_async()
    await workers.run(**TRACED)
    (span,) = runs(spans)
    assert span.status.status_code is StatusCode.UNSET


async def test_durations_are_recorded_by_task(app: App, workers: Workers, reader: InMemoryMetricReader) -> None:
    await app.task(name="measured", queue="sums")(lambda: None).batch_defer_async({}, {})
    await workers.run(**TRACED)
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = [
        one for one in data.resource_metrics[0].scope_metrics[0].metrics if one.name == "messaging.process.duration"
    ]
    assert metric.unit == "s"
    points = [point for point in metric.data.data_points if "measured" in (point.attributes or {}).values()]
    assert [(point.count, point.explicit_bounds[-1]) for point in points] == [(2, 3600.0)]  # type: ignore[union-attr]


@pytest.mark.usefixtures("spans")  # clears the spans of the defer
async def test_deferred_and_running_jobs_are_counted_by_task(
    app: App, workers: Workers, reader: InMemoryMetricReader
) -> None:
    running: list[list[int | float]] = []

    @app.task(name="counted")
    async def task() -> None:
        running.append(value(reader, "procrastinate.jobs.in_flight", "counted"))
        raise ValueError

    app.on_defer(trace_defers)
    await task.batch_defer_async({}, {})
    assert value(reader, "messaging.client.sent.messages", "counted") == [2]
    await workers.run(concurrency=1, **TRACED)
    assert running == [[1], [1]]
    assert value(reader, "procrastinate.jobs.in_flight", "counted") == [0]


async def test_the_trace_of_a_defer_reaches_a_worker_process_and_its_retries(
    database_url: str, spans: InMemorySpanExporter, tmp_path: pathlib.Path
) -> None:
    """The first run is a child of the defer. The retry is a trace of its own, with a link."""
    app = App(connector=connector_for(database_url))
    instrument(app)
    async with app.open_async():
        with trace.get_tracer("web").start_as_current_span("request") as request:
            job_id = await app.configure_task("fails once", queue="mail").defer_async()
    (send,) = [span for span in spans.get_finished_spans() if span.kind is SpanKind.PRODUCER]
    assert (send.name, dict(send.attributes or {})["messaging.message.id"]) == ("send mail", str(job_id))
    assert send.parent is not None
    assert send.parent.span_id == request.get_span_context().span_id
    exported = tmp_path / "spans"
    environment = {**os.environ, "DATABASE_URL": database.libpq_url(database_url), "SPANS": str(exported)}
    command = [sys.executable, "-m", "procrastinate", "--app=tests.worker.traced_program.app", "worker", "--one-shot"]
    done = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, second = [json.loads(line) for line in exported.read_text().splitlines()]
    trace_id, span_id = f"0x{send.context.trace_id:032x}", f"0x{send.context.span_id:016x}"
    assert (first["name"], first["kind"]) == ("process mail", "SpanKind.CONSUMER")
    assert (first["context"]["trace_id"], first["parent_id"]) == (trace_id, span_id)
    assert first["status"]["status_code"] == "ERROR"
    assert second["context"]["trace_id"] != trace_id
    assert second["parent_id"] is None
    for run in (first, second):
        assert [link["context"]["span_id"] for link in run["links"]] == [span_id]


def test_a_batch_is_one_span_whose_context_all_jobs_carry(spans: InMemorySpanExporter) -> None:
    app = App(connector=InMemoryConnector())
    instrument(app, propagation="link")
    instrument(app)
    seen: list[dict[str, str] | None] = []
    task = app.task(name="t", pass_context=True)(lambda context: seen.append(context.job.trace_context))
    with trace.use_span(trace.INVALID_SPAN):
        task.batch_defer({}, {})
        with Jobs(app, worker_options=app.worker_defaults) as jobs:  # type: ignore[arg-type]
            jobs.run()
    (send,) = [span for span in spans.get_finished_spans() if span.kind is SpanKind.PRODUCER]
    assert dict(send.attributes or {})["messaging.batch.message_count"] == 2
    carried = f"00-{send.context.trace_id:032x}-{send.context.span_id:016x}-"
    assert [(headers or {})["traceparent"][:-2] for headers in seen] == [carried, carried]
    for run in runs(spans):
        assert run.parent is None
        assert [link.context.span_id for link in run.links] == [send.context.span_id]


@pytest.mark.parametrize("option", ["propagation", "span_naming"])
def test_an_unknown_word_is_refused(option: str) -> None:
    wrong: dict[str, Any] = {option: "both"}
    with pytest.raises(ValueError, match=option):
        instrument(App(connector=InMemoryConnector()), **wrong)


async def test_a_worker_tells_its_slots_its_fetches_and_what_becomes_of_jobs(
    database_url: str, workers: Workers, reader: InMemoryMetricReader, spans: InMemorySpanExporter
) -> None:
    app = App(connector=connector_for(database_url))
    instrument(app)
    slots: list[dict[str, int]] = []

    @app.task(name="told", queue="levels", retry=RetryStrategy(max_attempts=1))
    def told() -> None:
        levels = points(reader)["procrastinate.worker.slots"]
        slots.append({point.attributes["messaging.procrastinate.slot.state"]: point.value for point in levels})
        raise ValueError

    async with app.open_async():
        await told.configure(schedule_in={"seconds": -60}).defer_async()
        await workers.run(app=app, concurrency=3, **TRACED)
    found = points(reader)

    def of_task(name: str) -> list[Any]:
        return [point for point in found[name] if "told" in point.attributes.values()]

    assert slots == [{"busy": 1, "lost": 0, "free": 2}] * 2
    assert [point.value for point in of_task("messaging.client.consumed.messages")] == [2]
    assert [point.value for point in of_task("procrastinate.job.retries")] == [1]
    (wait,) = of_task("procrastinate.job.wait.duration")
    assert (wait.count, wait.max < 60) == (1, True)
    assert [point.count for point in of_task("messaging.client.operation.duration")] == [1]
    assert sum(point.sum for point in found["procrastinate.fetch.size"]) >= 2
    assert sum(point.count for point in found["procrastinate.fetch.duration"]) >= 2
    assert [point.value for point in found["procrastinate.outcomes.unwritten"]] == [0]
    assert {point.value for point in found["procrastinate.worker.slots"]} == {0}


@pytest.mark.parametrize("unique", [None, Unique(until="end")], ids=["plain", "unique"])
async def test_a_worker_that_starts_after_a_tick_makes_no_span_for_it(
    app: App, workers: Workers, queue: Queue, spans: InMemorySpanExporter, unique: Unique | None
) -> None:
    """Another worker has deferred its job. A span would tell of no message."""
    instrument(app)
    app.periodic(cron="0 0 1 1 *")(app.task(name="yearly", unique=unique)(lambda timestamp: None))
    app.periodic_defaults["max_delay"] = 400 * 86400
    for _ in range(3):
        await workers.run()
    sent = [dict(span.attributes or {}) for span in spans.get_finished_spans() if span.name == "send default"]
    job_ids = queue.sql("SELECT array_agg(id::text) FROM procrastinate_jobs WHERE task_name = 'yearly'")
    assert [attributes.get("messaging.message.id") for attributes in sent] == job_ids


@pytest.mark.parametrize("unique", [None, Unique(until="end")], ids=["plain", "unique"])
async def test_the_span_of_the_slower_worker_says_that_the_tick_is_deferred_already(
    app: App,
    workers: Workers,
    queue: Queue,
    spans: InMemorySpanExporter,
    reader: InMemoryMetricReader,
    unique: Unique | None,
) -> None:
    """The other worker defers the tick between the look of this one and its statement."""
    instrument(app)
    task = f"yearly of {unique and 'unique'}"

    @app.on_defer
    def be_faster(defer: Defer) -> None:
        if defer.tick is not None and defer.task_name == task:
            claim = "INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, periodic_id) VALUES"
            queue.sql(f"{claim} (:task, :at, :id)", task=task, at=defer.tick.timestamp, id=defer.tick.periodic_id)

    app.periodic(cron="0 0 1 1 *")(app.task(name=task, unique=unique)(lambda timestamp: None))
    app.periodic_defaults["max_delay"] = 400 * 86400
    await workers.run()
    (sent,) = [span for span in spans.get_finished_spans() if span.name == "send default"]
    attributes = dict(sent.attributes or {})
    assert attributes["messaging.procrastinate.tick_already_deferred"] is True
    assert "messaging.message.id" not in attributes
    measured = points(reader).get("messaging.client.operation.duration", [])
    assert task not in [point.attributes.get("messaging.procrastinate.task") for point in measured]


async def test_a_rescued_job_is_counted(app: App, workers: Workers, queue: Queue, reader: InMemoryMetricReader) -> None:
    instrument(app)
    app.task(name="taken back")(lambda: None)
    job_id = await app.configure_task("taken back").defer_async()
    queue.sql("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = :id", id=job_id)
    await workers.run()
    assert value(reader, "procrastinate.jobs.rescued", "taken back") == [1]


async def test_the_end_of_a_worker_exports_what_its_jobs_left(
    app: App, workers: Workers, monkeypatch: pytest.MonkeyPatch, exporter: InMemorySpanExporter
) -> None:
    flushed: list[int] = []
    provider = trace.get_tracer_provider()
    threads: list[threading.Thread] = []

    def flush(milliseconds: int) -> None:
        flushed.append(milliseconds)
        threads.append(threading.current_thread())

    monkeypatch.setattr(provider, "force_flush", flush)
    instrument(app)
    await app.task(name="last")(lambda: None).defer_async()
    await workers.run()
    assert flushed == [2_000]
    assert threads != [threading.current_thread()]


async def test_spans_can_have_the_name_of_the_task_and_tell_what_the_worker_does(
    database_url: str, workers: Workers, spans: InMemorySpanExporter
) -> None:
    app = App(connector=connector_for(database_url))
    instrument(app, span_naming="task", worker_spans=True)
    instrument(app, worker_spans=True)  # without effect
    async with app.open_async():
        await app.task(name="shop.pay", queue="till")(lambda: None).batch_defer_async({}, {})
        await workers.run(app=app, name="w1", queues=["till"], **app.worker_defaults)
    found = spans.get_finished_spans()
    names = [span.name for span in found]
    assert (names.count("send shop.pay"), names.count("process shop.pay")) == (1, 2)
    for operation in ("receive", "settle"):
        mine = [span for span in found if span.name == f"{operation} till"]
        assert {(span.kind, span.parent) for span in mine} == {(SpanKind.CLIENT, None)}
        attributes = [dict(span.attributes or {}) for span in mine]
        assert sum(int(str(one["messaging.batch.message_count"])) for one in attributes) == 2
        assert {(one["messaging.operation.type"], one["messaging.client.id"]) for one in attributes} == {
            (operation, "w1")
        }
        assert all((span.start_time or 0) < (span.end_time or 0) for span in mine)
    assert len(names) == len([name for name in names if name.split()[0] in ("send", "process", "receive", "settle")])
