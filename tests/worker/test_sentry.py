"""Spans and events of jobs, from Sentry's own SDK with a transport of the test."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from procrastinate import defer_hooks, run_observers, worker_observers
from procrastinate.app import App
from procrastinate.contrib._sentry_crons import monitor_slug
from procrastinate.contrib.sentry import ProcrastinateIntegration
from procrastinate.exceptions import JobAborted
from procrastinate.job_context import JobContext
from procrastinate.logs import JobFilter
from procrastinate.periodic import PeriodicDeferrer
from procrastinate.retry import RetryStrategy
from tests.worker.running import Queue, Workers


class Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.transactions: list[dict[str, Any]] = []
        self.check_ins: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        """Keep an envelope."""
        for item in envelope.items:
            kept = {"event": self.events, "transaction": self.transactions, "check_in": self.check_ins}.get(item.type)
            if kept is not None:
                kept.append(item.payload.json)  # type: ignore[arg-type]

    def run_of(self, task: str) -> dict[str, Any]:
        """Return the transaction of the only run of a task."""
        (found,) = [one for one in self.transactions if one["transaction"] == task]
        return found


def start(**options: Any) -> Kept:
    """Start Sentry, and return its transport."""
    transport = Kept()
    sentry_sdk.init(
        dsn="https://public@sentry.invalid/1",
        transport=transport,
        traces_sample_rate=1.0,
        integrations=[options.pop("integration", None) or ProcrastinateIntegration()],
        **options,
    )
    return transport


@pytest.fixture(autouse=True)
def without_sentry() -> Iterator[None]:
    """Leave no client and no patch of logging for other tests of this process."""
    call_handlers = logging.Logger.callHandlers
    yield
    logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign]
    sentry_sdk.get_global_scope().set_client(None)
    defer_hooks.EVERYWHERE.clear()
    run_observers.EVERYWHERE.clear()
    worker_observers.EVERYWHERE.clear()
    for name in ("procrastinate", "logging"):
        sentry_sdk.integrations._installed_integrations.discard(name)
        sentry_sdk.integrations._processed_integrations.discard(name)


async def test_a_run_continues_the_trace_of_its_defer(app: App, workers: Workers) -> None:
    kept = start()
    app.task(name="work", queue="mail")(lambda a: None)
    with sentry_sdk.start_transaction(name="request", op="http.server") as request:
        job_id = await app.configure_task("work").defer_async(a="secret")
        await app.configure_task("work", task_kwargs={"a": 1}).batch_defer_async({"a": 2})
    await workers.start(wait=False).ended()
    publish, _ = [span for span in kept.run_of("request")["spans"] if span["op"] == "queue.publish"]
    assert (publish["description"], publish["origin"]) == ("work", "auto.queue.procrastinate")
    assert publish["data"]["messaging.message.id"] == str(job_id)
    runs = [one for one in kept.transactions if one["transaction"] == "work"]
    assert len(runs) == 2
    run = next(one for one in runs if one["tags"]["procrastinate_job_id"] == str(job_id))
    assert run["contexts"]["trace"]["trace_id"] == request.trace_id
    assert run["contexts"]["trace"]["parent_span_id"] == publish["span_id"]
    assert (run["contexts"]["trace"]["op"], run["contexts"]["trace"]["status"]) == ("queue.task.procrastinate", "ok")
    assert run["transaction_info"] == {"source": "task"}
    (process,) = [span for span in run["spans"] if span["op"] == "queue.process"]
    data = process["data"]
    assert (data["messaging.message.id"], data["messaging.destination.name"]) == (str(job_id), "mail")
    assert (data["messaging.message.retry.count"], data["messaging.system"]) == (0, "procrastinate")
    assert 0 <= data["messaging.message.receive.latency"] < 60_000
    assert "secret" not in str(kept.transactions)


async def test_a_job_that_fails_for_good_is_one_event(app: App, workers: Workers, queue: Queue) -> None:
    kept = start()

    @app.task(name="fails", retry=RetryStrategy(max_attempts=2))
    def fails(card: str) -> None:
        logging.getLogger("shop").warning("a breadcrumb of %s", "this job")
        sentry_sdk.set_tag("of", "this job")
        raise ValueError("on purpose")

    @app.task(name="aborts")
    async def aborts() -> None:
        raise JobAborted

    failed_id = await fails.defer_async(card="4242")
    await aborts.defer_async()
    await app.configure_task("unknown", queue="default").defer_async()
    await workers.start(wait=False, concurrency=1, unknown_task_timeout=0).ended()
    by_task = {event["contexts"]["procrastinate-job"]["task"]: event for event in kept.events}
    assert sorted(by_task) == ["fails", "unknown"]
    assert len(kept.events) == 2
    event = by_task["fails"]
    assert event["exception"]["values"][-1]["type"] == "ValueError"
    assert event["exception"]["values"][-1]["mechanism"] == {"type": "procrastinate", "handled": False}
    assert event["tags"] == {"procrastinate_job_id": str(failed_id), "procrastinate_queue": "default", "of": "this job"}
    context = event["contexts"]["procrastinate-job"]
    assert (context["attempt"], context["arguments"]) == (3, "[Filtered]")
    assert "of" not in by_task["unknown"]["tags"]
    statuses = [one["contexts"]["trace"]["status"] for one in kept.transactions if one["transaction"] == "fails"]
    assert statuses == ["aborted", "aborted", "internal_error"]
    assert kept.run_of("aborts")["contexts"]["trace"]["status"] == "aborted"


@pytest.mark.filterwarnings("ignore:The send_default_pii option")
async def test_arguments_and_retries_are_sent_on_request(app: App, workers: Workers) -> None:
    kept = start(
        integration=ProcrastinateIntegration(capture_retries=True, propagate_traces=False), send_default_pii=True
    )

    app.log_arguments = True

    async def fail(card: str) -> None:
        await asyncio.sleep(0)
        raise ValueError("on purpose")

    app.task(name="fails", retry=RetryStrategy(max_attempts=1))(fail)
    app.task(name="hides", log_arguments=False)(fail)
    await app.configure_task("fails").defer_async(card="4242")
    await app.configure_task("hides").defer_async(card="4243")
    await workers.start(wait=False).ended()
    sent = [event["contexts"]["procrastinate-job"] for event in kept.events]
    assert sorted((one["task"], one["attempt"], str(one["arguments"])) for one in sent) == [
        ("fails", 1, "{'card': '4242'}"),
        ("fails", 2, "{'card': '4242'}"),
        ("hides", 1, "[Filtered]"),
    ]


@pytest.mark.parametrize("is_allowed", [False, True])
@pytest.mark.filterwarnings("ignore:The send_default_pii option")
async def test_metadata_and_locks_are_sent_only_with_the_arguments(
    app: App, workers: Workers, caplog: pytest.LogCaptureFixture, is_allowed: bool
) -> None:
    """Sentry makes breadcrumbs of log records, and those of a worker have the fields of a job."""
    kept = start(send_default_pii=is_allowed, include_local_variables=False)
    filtering = JobFilter()
    app.log_arguments = True

    async def fail(card: str) -> None:
        record = logging.getLogger("shop").makeRecord("shop", logging.ERROR, "", 0, "an error", (), None)
        filtering.filter(record)
        logging.getLogger("shop").handle(record)
        await asyncio.sleep(0)
        raise ValueError("on purpose")

    app.task(name="fails")(fail)
    app.task(name="hides", log_arguments=False)(fail)
    for name in ("fails", "hides"):
        job = app.configure_task(name, lock=f"lock of {name}", meta={"user": f"user of {name}"})
        await job.defer_async(card=f"card of {name}")
    with caplog.at_level(logging.INFO):
        await workers.start(wait=False, concurrency=1).ended()
    sent = {
        event["contexts"]["procrastinate-job"]["task"]: event["contexts"]["procrastinate-job"]
        for event in kept.events
        if "exception" in event
    }
    assert sorted(sent) == ["fails", "hides"]
    private = {name: sent["fails"][name] for name in ("lock", "arguments", "meta")}
    shown = {"lock": "lock of fails", "arguments": {"card": "card of fails"}, "meta": {"user": "user of fails"}}
    assert private == (shown if is_allowed else dict.fromkeys(shown, "[Filtered]"))
    everything = str([*kept.events, *kept.transactions])
    assert "an error" in everything
    assert "Starting job fails" in everything
    assert not re.search(r"(user|card) of hides", everything)
    assert is_allowed or not re.search(r"(user|card|lock) of \w+", everything)


async def test_the_ticks_of_periodic_tasks_are_checked_in_and_out(app: App, workers: Workers) -> None:
    kept = start(
        integration=ProcrastinateIntegration(monitor_periodic_tasks=True, exclude_periodic_tasks=["shop[.]noise"])
    )

    @app.periodic(cron="0 3 * * *", timezone="Europe/Berlin", periodic_id="München")
    @app.task(name="shop.Report", retry=RetryStrategy(max_attempts=1), pass_context=True)
    def report(context: JobContext, timestamp: int) -> None:
        if context.job.attempts == 0:
            raise ValueError("once")

    def fail(timestamp: int) -> None:
        raise ValueError("for good")

    app.periodic(cron="@hourly")(app.task(name="fails")(fail))
    app.periodic(cron="* * * * * 30")(app.task(name="of seconds")(fail))
    app.periodic(cron="* * * * *")(app.task(name="shop.noise")(fail))
    ticks = [(periodic, 1_900_000_000) for periodic in app.periodic_registry.periodic_tasks.values()]
    for _ in range(2):  # the second worker is too late
        await PeriodicDeferrer(app.periodic_registry, job_manager=app.job_manager).defer_jobs(ticks)
    by_slug = {one["monitor_slug"]: one for one in kept.check_ins}
    assert [one["status"] for one in kept.check_ins] == ["in_progress"] * 2
    assert by_slug["shop-report-m-nchen"]["monitor_config"] == {
        "schedule": {"type": "crontab", "value": "0 3 * * *"},
        "timezone": "Europe/Berlin",
    }
    assert by_slug["fails"]["monitor_config"]["timezone"] == "UTC"
    app.periodic_registry.periodic_tasks.clear()  # the worker defers no other ticks
    await workers.run()
    ended = {one["monitor_slug"]: one for one in kept.check_ins[2:]}
    assert len(kept.check_ins) == 4
    assert {slug: one["status"] for slug, one in ended.items()} == {"shop-report-m-nchen": "ok", "fails": "error"}
    assert {slug: one["check_in_id"] for slug, one in ended.items()} == {
        slug: one["check_in_id"] for slug, one in by_slug.items()
    }
    assert 0 <= ended["fails"]["duration"] < 60


async def test_a_job_of_a_tick_that_is_lost_with_its_worker_checks_out(
    app: App, workers: Workers, queue: Queue
) -> None:
    """It was rescued too often. One that waits again is still in progress, and headers of plain SQL are no error."""
    kept = start(integration=ProcrastinateIntegration(monitor_periodic_tasks=True))
    app.periodic(cron="@hourly")(app.task(name="lost")(lambda timestamp: None))
    app.periodic(cron="@daily")(app.task(name="rescued", queue="other")(lambda timestamp: None))
    ticks = [(periodic, 1_900_000_000) for periodic in app.periodic_registry.periodic_tasks.values()]
    await PeriodicDeferrer(app.periodic_registry, job_manager=app.job_manager).defer_jobs(ticks)
    app.periodic_registry.periodic_tasks.clear()
    await app.configure_task("lost").defer_async(timestamp=1)
    queue.sql("UPDATE procrastinate_jobs SET trace_context = '[1]' WHERE args->>'timestamp' = '1'")
    queue.sql("UPDATE procrastinate_jobs SET status = 'doing', rescues = CASE task_name WHEN 'lost' THEN 9 ELSE 0 END")
    await workers.run(queues=["default"])
    assert queue.statuses() == {"failed": 2, "todo": 1}
    assert [(one["monitor_slug"], one["status"]) for one in kept.check_ins[2:]] == [("lost", "error")]


def test_the_slug_of_a_monitor_is_short_and_has_plain_letters() -> None:
    assert monitor_slug("shop.tasks.send_mail", "") == "shop-tasks-send_mail"
    long = monitor_slug("shop." + "x" * 60, "a")
    assert len(long) == 50
    assert long != monitor_slug("shop." + "x" * 60, "b")
    assert re.fullmatch("[a-z0-9_-]+", monitor_slug("任务", ""))
