"""A worker's options."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate.app import App
from procrastinate.jobs import DeleteJobCondition
from procrastinate.worker import Worker, WorkerOptions


def sync_middleware(call_next: Any, context: Any, worker: Any) -> Any:
    return call_next()


def test_without_options(app: App) -> None:
    settings = Worker(app).settings
    assert (settings.name, settings.queues, settings.concurrency, settings.wait) == ("worker", None, 1, True)
    assert (settings.fetch_job_polling_interval, settings.abort_job_polling_interval) == (5, 5)
    assert (settings.update_heartbeat_interval, settings.stalled_worker_timeout) == (10, 30)
    assert settings.delete_jobs is DeleteJobCondition.NEVER
    assert settings.shutdown_graceful_timeout is None
    assert settings.max_jobs is None
    assert (settings.listen_notify, settings.install_signal_handlers, settings.prefetch) == (True, True, True)


def test_the_options_are_those_of_the_typed_dict(app: App) -> None:
    parameters = set(inspect.signature(Worker).parameters) - {"app"}
    assert parameters == set(WorkerOptions.__annotations__)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"concurrency": 0}, ValueError, "concurrency must be at least 1, not 0"),
        ({"concurrency": 1.5}, TypeError, "concurrency"),
        ({"concurrency": "2"}, TypeError, "concurrency"),
        ({"fetch_job_polling_interval": 0}, ValueError, "fetch_job_polling_interval must be more than 0"),
        ({"abort_job_polling_interval": -1}, ValueError, "abort_job_polling_interval must be more than 0"),
        ({"update_heartbeat_interval": 0}, ValueError, "update_heartbeat_interval must be more than 0"),
        ({"fetch_job_polling_interval": "5"}, TypeError, "fetch_job_polling_interval"),
        ({"shutdown_graceful_timeout": -1}, ValueError, "shutdown_graceful_timeout"),
        ({"shutdown_graceful_timeout": "10"}, TypeError, "shutdown_graceful_timeout"),
        ({"max_rescues": -1}, ValueError, "max_rescues"),
        ({"store_errors": "no"}, TypeError, "store_errors must be True or False"),
        ({"max_jobs": 0}, ValueError, "max_jobs must be at least 1, not 0"),
        ({"max_jobs": "5"}, TypeError, "max_jobs"),
        (
            {"update_heartbeat_interval": 10, "stalled_worker_timeout": 10},
            ValueError,
            "stalled_worker_timeout .* must be longer than update_heartbeat_interval",
        ),
        ({"queues": "mail"}, TypeError, r"write queues=\['mail'\]"),
        ({"queues": [1]}, TypeError, "queues"),
        ({"queues": 1}, TypeError, "queues takes a list of names, not 1"),
        ({"concurrency": True}, TypeError, "concurrency must be a whole number, not True"),
        ({"name": 1}, TypeError, "name must be a string, not 1"),
        ({"wait": "no"}, TypeError, "wait must be True or False, not 'no'"),
        ({"listen_notify": "0"}, TypeError, "listen_notify must be True or False, not '0'"),
        ({"prefetch": 10}, TypeError, "prefetch must be True or False, not 10"),
        ({"install_signal_handlers": "yes"}, TypeError, "install_signal_handlers must be True or False"),
        ({"additional_context": [1]}, TypeError, "additional_context must be a dict"),
        (
            {"delete_jobs": "sometimes"},
            ValueError,
            "delete_jobs must be one of never, successful, always",
        ),
        ({"task_middleware": [3]}, TypeError, "task_middleware takes callables"),
        ({"worker_middleware": [3]}, TypeError, "worker_middleware takes callables"),
        ({"worker_middleware": [sync_middleware]}, exceptions.MiddlewareKindMismatch, "is sync, .* must be async"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
def test_a_wrong_option_is_refused_by_name(
    app: App, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Worker(app, **options)


def test_queues_are_kept_in_order_without_repetition(app: App) -> None:
    assert Worker(app, queues=["b", "a", "b"]).settings.queues == ("b", "a")
    assert Worker(app, queues=iter(["a"])).settings.queues == ("a",)


def test_no_queues_are_all_queues(app: App) -> None:
    assert Worker(app, queues=[]).settings.queues is None
    assert Worker(app, queues=None).settings.queues is None


@pytest.mark.parametrize("given", ["always", DeleteJobCondition.ALWAYS])
def test_delete_jobs_is_a_text_or_a_member(app: App, given: str | DeleteJobCondition) -> None:
    assert Worker(app, delete_jobs=given).settings.delete_jobs is DeleteJobCondition.ALWAYS


def test_a_worker_finds_its_tasks(app: App) -> None:
    task = app.task(name="add", aliases=["plus"])(lambda: None)
    assert Worker(app).find_task("add") is Worker(app).find_task("plus") is task
    with pytest.raises(exceptions.TaskNotFound, match=r"'minus' .*import_paths"):
        Worker(app).find_task("minus")


def test_the_logger_carries_the_name(app: App) -> None:
    worker = Worker(app, name="mail", queues=["a"])
    assert worker.logger.name == "procrastinate.worker.mail"
    assert worker.log_context() == {"name": "mail", "worker_id": None, "job_id": None, "queues": ["a"]}


def test_a_worker_may_be_stopped_before_it_runs(app: App) -> None:
    Worker(app).stop()
