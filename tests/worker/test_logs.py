"""The log records of workers: their actions and values, on which dashboards and alerts depend."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.job_context import AbortReason, JobContext
from procrastinate.jobs import Job
from procrastinate.retry import RetryStrategy
from tests.worker.running import Queue, Workers, happens

JOB_KEYS = {
    *("id", "status", "queue", "priority", "lock", "queueing_lock", "task_name", "task_kwargs"),
    *("scheduled_at", "attempts", "abort_requested", "worker_id", "workflow_id", "step", "meta", "call_string"),
}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="procrastinate")
    return caplog


def named(log: pytest.LogCaptureFixture, action: str) -> logging.LogRecord:
    """Return the only record with the action."""
    (record,) = (record for record in log.records if getattr(record, "action", None) == action)
    return record


def actions(log: pytest.LogCaptureFixture, logger: str) -> list[str]:
    return [vars(record)["action"] for record in log.records if record.name == logger]


async def test_a_successful_job(app: App, workers: Workers, log: pytest.LogCaptureFixture) -> None:
    job_id = await app.task(name="add")(lambda a: a + 1).defer_async(a=1)
    worker = await workers.run(name="mine", queues=["default"])
    assert actions(log, "procrastinate.worker.mine") == [
        *("start_worker", "loaded_job_info", "start_job", "job_success", "finish_task"),
        *("stopping_worker", "stop_worker"),
    ]
    record = named(log, "job_success")
    values = vars(record)
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith(f"Job add[{job_id}](a=1) ended with status: Success")
    assert record.getMessage().endswith("- Result: 2")
    assert values["worker"] == {"name": "mine", "worker_id": worker.worker_id, "job_id": None, "queues": ["default"]}
    assert values["job"].keys() == JOB_KEYS
    assert (values["job"]["id"], values["job"]["task_kwargs"]) == (job_id, {"a": 1})
    assert values["result"] == 2
    assert values["duration"] == values["end_timestamp"] - values["start_timestamp"] >= 0


async def test_what_is_not_logged_is_not_written(
    app: App, workers: Workers, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the call string of a job, which may be large, nor the extra values of the record are computed."""
    caplog.set_level(logging.WARNING, logger="procrastinate")
    written: list[str] = []
    monkeypatch.setattr(Job, "call_string", property(lambda job: written.append("call")))
    monkeypatch.setattr(Job, "log_context", lambda job: written.append("context"))
    task = app.task(name="add")(lambda a: a + 1)
    await task.defer_async(a=1)
    await task.batch_defer_async({"a": 1}, {"a": 2})
    worker = await workers.run()
    assert worker.worker_id is not None
    assert written == []


async def test_a_failed_job(app: App, workers: Workers, log: pytest.LogCaptureFixture) -> None:
    await app.task(name="divide")(lambda: 1 / 0).defer_async()
    await workers.run()
    record = named(log, "job_error")
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert "ended with status: Error (lasted" in record.getMessage()


async def test_a_job_that_will_be_retried_is_logged_without_an_error_level(
    app: App, workers: Workers, log: pytest.LogCaptureFixture
) -> None:
    await app.task(name="divide", retry=RetryStrategy(wait=3600))(lambda: 1 / 0).defer_async()
    await workers.run()
    record = named(log, "job_error_retry")
    assert record.levelno == logging.INFO
    assert "Error, to retry" in record.getMessage()
    assert record.exc_info is not None
    assert not [record for record in log.records if record.levelno > logging.INFO]


async def test_an_unknown_task(app: App, workers: Workers, log: pytest.LogCaptureFixture) -> None:
    await app.configure_task("elsewhere").defer_async()
    await workers.run(unknown_task_timeout=0)
    assert named(log, "task_not_found").levelno == logging.ERROR
    assert named(log, "job_error").levelno == logging.ERROR


async def test_an_aborted_job(app: App, workers: Workers, queue: Queue, log: pytest.LogCaptureFixture) -> None:
    started = asyncio.Event()

    @app.task
    async def task() -> None:
        started.set()
        await asyncio.Event().wait()

    job_id = await task.defer_async()
    await workers.listening(queue)
    await happens(started)
    await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    await queue.reaches(job_id, Status.ABORTED)
    assert AbortReason.USER_REQUEST.value in named(log, "abort_job").getMessage()
    record = named(log, "job_aborted")
    assert (record.levelno, "Aborted" in record.getMessage()) == (logging.INFO, True)


async def test_a_job_that_is_aborted_by_a_shutdown_and_retried(
    app: App, workers: Workers, log: pytest.LogCaptureFixture
) -> None:
    started = asyncio.Event()

    @app.task(retry=True)
    async def task() -> None:
        started.set()
        await asyncio.Event().wait()

    await task.defer_async()
    running = workers.start(shutdown_graceful_timeout=0)
    await happens(started)
    await running.stopped()
    assert named(log, "job_aborted_retry").levelno == logging.INFO


async def test_a_worker_that_does_not_listen_says_so(app: App, workers: Workers, log: pytest.LogCaptureFixture) -> None:
    await app.task(name="noop")(lambda: None).defer_async()
    await workers.run(listen_notify=False)
    assert named(log, "listen_notify_disabled").levelno == logging.INFO


async def test_a_worker_without_periodic_tasks_says_so(
    app: App, workers: Workers, log: pytest.LogCaptureFixture
) -> None:
    await app.task(name="noop")(lambda: None).defer_async()
    await workers.run()
    assert named(log, "periodic_deferrer_no_task").name == "procrastinate.periodic"


async def test_signal_handlers_are_told_of(workers: Workers, log: pytest.LogCaptureFixture) -> None:
    await workers.run(install_signal_handlers=True)
    assert named(log, "install_signal_handlers").levelno == logging.DEBUG
    assert named(log, "uninstall_signal_handlers").levelno == logging.DEBUG


async def test_everything_has_an_action_and_nothing_is_alarming(
    app: App, workers: Workers, queue: Queue, log: pytest.LogCaptureFixture
) -> None:
    def fail_once(context: JobContext, /, **kwargs: Any) -> None:
        if context.job.attempts == 0:
            raise ValueError

    task: Any = app.task(name="task", pass_context=True, lock="one", retry=1)(fail_once)
    app.periodic(cron="* * * * *")(task)
    await task.batch_defer_async({}, {}, {})
    running = await workers.listening(queue, concurrency=2)
    await queue.succeeded(await task.defer_async())
    await running.stopped()
    records = [record for record in log.records if record.name.startswith("procrastinate")]
    assert not [record for record in records if not hasattr(record, "action")]
    assert not [record for record in records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("ends", ["well", "badly", "again"])
async def test_arguments_excluded_from_logs_are_in_no_record(
    app: App, workers: Workers, log: pytest.LogCaptureFixture, ends: str
) -> None:
    """Neither the deferring process nor the worker logs them, in messages or in values."""
    retry = RetryStrategy(wait=3600) if ends == "again" else False

    @app.task(name="pay", log_arguments=False, retry=retry)
    def pay(card: str) -> None:
        assert card == "4111 1111"
        if ends != "well":
            raise ValueError("declined")

    await pay.defer_async(card="4111 1111")
    await pay.configure(task_kwargs={"card": "4111 1111"}).defer_async()
    await workers.run()
    assert len(log.records) > 8
    assert "4111 1111" not in "\n".join(f"{record.getMessage()} {vars(record)}" for record in log.records)
    assert "pay[1](...)" in log.text


async def test_the_arguments_of_a_task_known_by_its_name_are_not_logged_either(
    app: App, log: pytest.LogCaptureFixture
) -> None:
    app.task(name="pay", log_arguments=False)(lambda card: None)
    await app.configure_task("pay").defer_async(card="4111 1111")
    assert "4111 1111" not in log.text + str([vars(record) for record in log.records])


async def test_an_app_may_log_the_arguments_of_no_job(
    app: App, workers: Workers, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "log_arguments", False)
    pay = app.task(name="pay")(lambda card: None)
    await pay.defer_async(card="4111 1111")
    await pay.batch_defer_async({"card": "4111 1111"})
    await app.configure_task("elsewhere").defer_async(card="4111 1111")
    await workers.run()
    assert "pay[1](...)" in log.text
    assert "4111 1111" not in log.text + str([vars(record) for record in log.records])


async def test_arguments_and_results_are_logged_with_debug_messages_only(
    app: App, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "procrastinate")
    pay = app.task(name="pay")(lambda card: f"paid by {card}")
    await pay.defer_async(card="4111 1111")
    await app.configure_task("pay").defer_async(card="4111 1111")
    await workers.run()
    assert "pay[1](...) ended with status: Success" in caplog.text
    assert "4111 1111" not in caplog.text + str([vars(record) for record in caplog.records])

    caplog.set_level(logging.DEBUG, "procrastinate")
    await pay.defer_async(card="5500 0000")
    assert "Deferred pay[3](card='5500 0000')" in caplog.text


async def test_an_app_may_log_the_arguments_of_its_jobs_always(
    app: App, workers: Workers, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "procrastinate")
    monkeypatch.setattr(app, "log_arguments", True)
    await app.task(name="add")(lambda a: a + 1).defer_async(a=1)
    await workers.run()
    assert "add[1](a=1) ended with status: Success" in caplog.text
    assert "- Result: 2" in caplog.text


async def test_a_change_of_the_app_reaches_tasks_that_were_deferred_before(
    app: App, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay = app.task(name="pay")(lambda card: None)
    await pay.defer_async(card="first")
    monkeypatch.setattr(app, "log_arguments", False)
    await pay.defer_async(card="second")
    assert ("first" in log.text, "second" in log.text) == (True, False)


def test_whether_arguments_are_logged_is_yes_or_no(app: App) -> None:
    with pytest.raises(TypeError, match=r"^log_arguments must be True or False, not 'no'$"):
        app.task(log_arguments="no")(print)  # type: ignore[arg-type]
