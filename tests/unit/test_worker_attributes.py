"""The options of a worker are its attributes: read, and set before the run."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest

from procrastinate.app import App
from procrastinate.jobs import DeleteJobCondition
from procrastinate.testing import InMemoryConnector
from procrastinate.worker import Worker
from procrastinate.worker.worker_settings import WorkerSettings


@pytest.fixture
def memory_app() -> App:
    return App(connector=InMemoryConnector())


def test_every_option_is_an_attribute(memory_app: App) -> None:
    worker = Worker(memory_app)
    for field in dataclasses.fields(WorkerSettings):
        name = "worker_name" if field.name == "name" else field.name
        assert getattr(worker, name) == getattr(worker.settings, field.name), name


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("shutdown_graceful_timeout", 1, 1.0),
        ("concurrency", 7, 7),
        ("concurrency", 10**30, 2**31 - 1),
        ("queues", ["a", "a"], ("a",)),
        ("queues", None, None),
        ("delete_jobs", "always", DeleteJobCondition.ALWAYS),
        ("wait", False, False),
        ("task_middleware", None, ()),
        ("additional_context", {"a": 1}, {"a": 1}),
    ],
)
def test_an_option_that_is_set_counts(memory_app: App, name: str, value: Any, kept: Any) -> None:
    worker = Worker(memory_app)
    setattr(worker, name, value)
    assert getattr(worker, name) == getattr(worker.settings, name) == kept


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concurrency", 0),
        ("queues", "mail"),
        ("wait", "no"),
        ("stalled_worker_timeout", 1),
    ],
)
def test_an_option_that_is_set_is_checked(memory_app: App, name: str, value: Any) -> None:
    worker = Worker(memory_app)
    with pytest.raises((TypeError, ValueError), match=name):
        setattr(worker, name, value)


def test_a_worker_that_gets_a_name_logs_under_it(memory_app: App) -> None:
    worker = Worker(memory_app)
    worker.worker_name = "mail"
    assert worker.logger.name == "procrastinate.worker.mail"


async def test_an_option_counts_in_the_run_and_is_not_taken_in_vain_afterwards(memory_app: App) -> None:
    seen: list[Any] = []

    @memory_app.task(name="look", pass_context=True)
    async def look(context: Any) -> None:
        seen.append((context.worker_queues, context.additional_context))

    await look.defer_async()
    worker = memory_app.make_worker(install_signal_handlers=False)
    worker.wait = False
    worker.queues = ["default"]
    worker.additional_context = {"a": 1}
    await worker.run()
    assert seen == [(("default",), {"a": 1})]
    with pytest.raises(RuntimeError, match=r"Worker\.concurrency cannot be set after the start of the worker"):
        worker.concurrency = 2
    worker.shutdown_graceful_timeout = 1
    assert worker.settings.shutdown_graceful_timeout == 1


@pytest.mark.parametrize(
    ("queues", "unknown"), [(["mail", "mial"], "'mial'"), (["mail", "slow"], None), (None, None)], ids=str
)
async def test_a_worker_names_the_queues_that_no_task_has(
    memory_app: App, caplog: pytest.LogCaptureFixture, queues: list[str] | None, unknown: str | None
) -> None:
    memory_app.task(name="send", queue="mail")(lambda timestamp=0: None)
    memory_app.periodic(cron="* * * * *", queue="slow", periodic_id="s")(memory_app.tasks["send"])
    with caplog.at_level(logging.WARNING):
        await memory_app.run_worker_async(queues=queues, wait=False, install_signal_handlers=False)
    records = [record for record in caplog.records if getattr(record, "action", "") == "unknown_queues"]
    assert len(records) == (unknown is not None)
    for record in records:
        assert f"No task has the queue {unknown}, and no job waits there." in record.getMessage()
        assert "The tasks have the queues 'mail', 'slow'" in record.getMessage()


@pytest.mark.parametrize("delay", [None, {"hours": 1}], ids=["ready", "scheduled"])
async def test_a_queue_with_waiting_jobs_is_not_taken_for_misspelt(
    memory_app: App, caplog: pytest.LogCaptureFixture, delay: dict[str, int] | None
) -> None:
    task = memory_app.task(name="send", queue="mail")(lambda: None)
    await task.configure(queue="from a script", schedule_in=delay).defer_async()
    with caplog.at_level(logging.WARNING):
        await memory_app.run_worker_async(queues=["from a script"], wait=False, install_signal_handlers=False)
    assert [record for record in caplog.records if getattr(record, "action", "") == "unknown_queues"] == []


async def test_nb_seconds_is_deprecated(memory_app: App) -> None:
    with pytest.warns(DeprecationWarning, match="nb_seconds"):
        assert list(await memory_app.job_manager.get_stalled_jobs(nb_seconds=1)) == []


def test_retry_may_be_none(memory_app: App) -> None:
    assert memory_app.task(name="once", retry=None)(lambda: None).retry_strategy is None


@pytest.mark.parametrize("name", ["mail\0", "\ud800"])
def test_a_name_that_no_row_can_have_is_refused(memory_app: App, name: str) -> None:
    with pytest.raises(ValueError, match=r"^name contains"):
        Worker(memory_app, name=name)
