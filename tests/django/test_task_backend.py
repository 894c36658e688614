"""Django's own Tasks framework, on the queue: what is enqueued, what a worker makes of it, what can be read back."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import importlib
import json
import logging
import pathlib
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test.utils import override_settings
from django.utils import timezone
from psycopg import IsolationLevel

import procrastinate
from procrastinate import exceptions
from procrastinate.adapters.django.deploy_checks import check_jobs
from procrastinate.adapters.django.task_backend import framework, task_results
from procrastinate.adapters.django.task_backend.backend import _job_manager
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob
from procrastinate.dashboard import Access
from procrastinate.dashboard.dashboard import Dashboard
from procrastinate.dashboard.messages import Request
from procrastinate.locks import by_arguments
from procrastinate.retry import RetryStrategy
from procrastinate.testing import Jobs
from tests.database import libpq_url
from tests.django import shop
from tests.django.shop import framework_tasks as tasks
from tests.django.shop.models import Order
from tests.django.shop.tasks import ship as app_task
from tests.django.support import ROOT, using_database
from tests.local_zone import local_zone

pytestmark = pytest.mark.usefixtures("project")

BACKEND = "procrastinate.contrib.django.tasks.ProcrastinateBackend"
READY, RUNNING = framework.TaskResultStatus.READY, framework.TaskResultStatus.RUNNING
SUCCESSFUL, FAILED = framework.TaskResultStatus.SUCCESSFUL, framework.TaskResultStatus.FAILED


def backend(**options: Any) -> Any:
    """A backend with these options, as the setting ``TASKS`` has it."""
    return override_settings(TASKS={"default": {"BACKEND": BACKEND, "QUEUES": [], "OPTIONS": options}})


def run_worker(**options: Any) -> None:
    """Run what waits."""
    app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False, **options)


@pytest.fixture
def told() -> Iterator[list[tuple[str, Any]]]:
    """The signals that were sent: their names, and the status of the result at that moment."""
    seen: list[tuple[str, Any]] = []
    names = ("task_enqueued", "task_started", "task_finished")
    receivers = {}
    for name in names:

        def receive(sender: Any, task_result: Any, name: str = name, **kwargs: Any) -> None:
            seen.append((name, task_result.status))

        receivers[name] = receive
        getattr(framework, name).connect(receive)
    yield seen
    for name in names:
        getattr(framework, name).disconnect(receivers[name])


@contextlib.contextmanager
def raising_receiver() -> Iterator[None]:
    """Connect a receiver of ``task_finished`` that raises."""

    def measure(**kwargs: Any) -> None:
        raise ConnectionRefusedError("no statsd")

    framework.task_finished.connect(measure)
    try:
        yield
    finally:
        framework.task_finished.disconnect(measure)


def test_a_task_is_enqueued_run_and_read_back() -> None:
    with backend():
        result = tasks.add.enqueue(1, b=2)
        assert (result.status, result.attempts, result.args, result.kwargs) == (READY, 0, [1], {"b": 2})
        job = ProcrastinateJob.objects.get(pk=result.id)
        assert job.task_name == "tests.django.shop.framework_tasks.add"
        run_worker()
        result.refresh()
        assert (result.status, result.return_value, result.attempts, result.errors) == (SUCCESSFUL, 3, 1, [])
        assert result.enqueued_at <= result.started_at <= result.last_attempted_at <= result.finished_at
        assert tasks.add.get_result(result.id).task == tasks.add


def test_an_async_task_is_run_too() -> None:
    with backend():
        result = tasks.add_async.enqueue(1, b=2)
        run_worker()
        result.refresh()
        assert result.return_value == 3


def test_async_code_enqueues_and_reads_results(told: list[tuple[str, Any]]) -> None:
    from asgiref.sync import async_to_sync

    with backend():
        result = async_to_sync(tasks.add.aenqueue)(1)
        run_worker()
        async_to_sync(result.arefresh)()
        assert result.return_value == 1
        assert async_to_sync(tasks.add.aget_result)(result.id).return_value == 1
    assert told == [("task_enqueued", READY), ("task_started", RUNNING), ("task_finished", SUCCESSFUL)]


def test_one_worker_serves_tasks_of_both_kinds() -> None:
    with backend():
        orders = [Order.objects.create(product="book") for _ in range(2)]
        tasks.ship.enqueue(orders[0].pk)
        app_task.defer(order_id=orders[1].pk)
        run_worker()
    assert set(Order.objects.values_list("product", flat=True)) == {"shipped"}


def test_what_is_enqueued_in_a_transaction_vanishes_with_it() -> None:
    with backend():
        with transaction.atomic():
            result = tasks.add.enqueue(1)
            assert tasks.add.get_result(result.id).status == READY
            transaction.set_rollback(True)
        with pytest.raises(framework.TaskResultDoesNotExist):
            tasks.add.get_result(result.id)


@pytest.mark.parametrize("task", [tasks.fail, tasks.fail_async], ids=["sync", "async"])
def test_a_task_that_raises_has_failed(
    task: Any, told: list[tuple[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """Django's logger is told while the exception is handled, and has its traceback."""
    with backend(), caplog.at_level(logging.ERROR):
        result = task.enqueue()
        run_worker()
        result.refresh()
        assert (result.status, result.attempts, result.is_finished) == (FAILED, 1, True)
        (error,) = result.errors
        assert error.exception_class is ValueError
        assert error.traceback.endswith("ValueError: on purpose\n")
        with pytest.raises(ValueError, match="Task failed"):
            _ = result.return_value
    assert told == [("task_enqueued", READY), ("task_started", RUNNING), ("task_finished", FAILED)]
    (logged,) = [record for record in caplog.records if record.name.startswith(framework.NAME)]
    assert logged.exc_info is not None
    assert isinstance(logged.exc_info[1], ValueError)


@pytest.mark.parametrize(
    "retry", [1, {"max_attempts": 1}, RetryStrategy(max_attempts=1)], ids=["number", "dict", "strategy"]
)
def test_a_retry_strategy_comes_through_the_options(retry: Any, told: list[tuple[str, Any]]) -> None:
    """Between the attempts the result is ready again, with the error of the first; it finishes once."""
    with backend(retry=retry):
        result = tasks.fail_first.enqueue()
        run_worker()
        result.refresh()
        assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, 2, 2)
        assert [error.exception_class for error in result.errors] == [ValueError]
    assert [name for name, _ in told] == ["task_enqueued", "task_started", "task_started", "task_finished"]


@contextlib.contextmanager
def locked_errors(url: str) -> Iterator[None]:
    """Lock the table of errors, as ``VACUUM FULL`` or a migration does."""
    with psycopg.connect(libpq_url(url)) as other:
        other.execute("LOCK procrastinate_errors IN ACCESS EXCLUSIVE MODE")
        yield
        other.rollback()


IMPATIENT = {"options": "-c lock_timeout=200ms"}


@pytest.mark.parametrize("task", [tasks.add, tasks.add_async], ids=["sync", "async"])
def test_a_task_starts_while_the_table_of_errors_is_locked(task: Any, project_url: str) -> None:
    async def lock(call_next: Any, context: Any, worker: Any) -> Any:
        with locked_errors(project_url):
            return await call_next()

    with using_database(project_url, OPTIONS=IMPATIENT), backend():
        result = task.enqueue(1)
        run_worker(worker_middleware=[lock])
        result.refresh()
        assert (result.status, result.return_value) == (SUCCESSFUL, 1)


@pytest.mark.parametrize("task", [tasks.fail_first, tasks.fail_first_async], ids=["sync", "async"])
def test_a_task_is_tried_again_although_its_errors_cannot_be_read(task: Any, project_url: str) -> None:
    async def lock(call_next: Any, context: Any, worker: Any) -> Any:
        with locked_errors(project_url) if context.job.attempts else contextlib.nullcontext():
            return await call_next()

    with using_database(project_url, OPTIONS=IMPATIENT), backend(retry=1):
        result = task.enqueue()
        run_worker(worker_middleware=[lock])
        result.refresh()
        assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, 2, 2)


def test_a_run_gets_the_newest_errors_and_the_number_of_all_attempts() -> None:
    with backend():
        result = tasks.look_back.enqueue()
        with connection.cursor() as cursor:
            cursor.execute("UPDATE procrastinate_jobs SET attempts = 30")
            cursor.execute(
                "INSERT INTO procrastinate_events (job_id, type, at) "
                "SELECT %s, 'started', now() FROM generate_series(1, 30)",
                [int(result.id)],
            )
            cursor.execute(
                "INSERT INTO procrastinate_errors (job_id, attempt, worker_id, exception_class, message, traceback) "
                "SELECT %s, n, 1, 'shop.Error' || n, '', '' FROM generate_series(1, 30) AS n",
                [int(result.id)],
            )
        run_worker()
        result.refresh()
        assert result.return_value == {
            "attempt": 31,
            "errors": [f"shop.Error{number}" for number in range(11, 31)],
            "enqueued": True,
        }


@pytest.mark.skipif(framework.NAME == "django_tasks", reason="The decorator takes more from Django 6.1 on")
def test_a_retry_strategy_comes_through_the_decorator() -> None:
    """The task's own counts more than the backend's."""
    with backend(retry=5, timeout=600):
        task = _declared(tasks.fail, retry=2, timeout=0.5)
        from procrastinate.adapters.django.task_backend.backend import ProcrastinateTask

        assert isinstance(task, ProcrastinateTask)
        assert (task.retry, task.timeout) == (2, 0.5)
        with pytest.raises(framework.InvalidTask, match="timeout"):
            _declared(tasks.fail, timeout=-1)


def _declared(task: Any, **options: Any) -> Any:
    import django

    if django.VERSION < (6, 1):
        return dataclasses.replace(task, **options)
    return tasks.task(**options)(task.func)


def test_a_timeout_comes_through_the_options(told: list[tuple[str, Any]]) -> None:
    with backend(timeout=3):
        result = tasks.sleep.enqueue()
        run_worker()
        result.refresh()
        assert result.status == FAILED
        assert result.errors[0].exception_class is exceptions.TaskTimeout
    assert told[-1] == ("task_finished", FAILED)


@pytest.mark.parametrize("what", ["nul", "long"])
def test_the_signal_tells_of_a_value_that_cannot_be_stored(what: str, told: list[tuple[str, Any]]) -> None:
    with backend(retry=1):
        result = tasks.release.enqueue(what)
        run_worker()
        result.refresh()
        assert (result.status, result.attempts) == (FAILED, 1)
    assert told[-1] == ("task_finished", FAILED)


def test_the_signal_tells_of_a_task_that_returned_after_its_timeout(told: list[tuple[str, Any]]) -> None:
    with backend(timeout=0.2):
        result = tasks.outstay.enqueue()
        run_worker()
        result.refresh()
        assert result.status == FAILED
    assert told[-1] == ("task_finished", FAILED)


@pytest.mark.parametrize("task", [tasks.add, tasks.add_async], ids=["sync", "async"])
def test_a_receiver_of_task_finished_that_raises_leaves_a_success_as_it_is(
    task: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with backend(retry=2), raising_receiver():
        result = task.enqueue(1)
        run_worker()
        result.refresh()
        assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, 1, 1)
    assert "no statsd" in caplog.text


@pytest.mark.parametrize("task", [tasks.fail, tasks.fail_async], ids=["sync", "async"])
def test_a_receiver_of_task_finished_that_raises_leaves_the_error_of_the_task_as_it_is(task: Any) -> None:
    with backend(), raising_receiver():
        result = task.enqueue()
        run_worker()
        result.refresh()
        assert [error.exception_class for error in result.errors] == [ValueError]


def test_priority_queue_and_time_are_the_jobs() -> None:
    later = datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC)
    with backend():
        task = tasks.add.using(priority=7, queue_name="slow", run_after=later)
        result = task.enqueue(1)
        job = ProcrastinateJob.objects.get(pk=result.id)
        assert (job.priority, job.queue_name, job.scheduled_at) == (7, "slow", later)
        assert tasks.add.get_result(result.id).task == task


def test_without_time_zones_a_naive_time_is_the_projects() -> None:
    with backend(), override_settings(USE_TZ=False, TIME_ZONE="UTC"):
        result = tasks.add.using(run_after=datetime.datetime(2090, 1, 1)).enqueue(1)
        assert app.job_manager.get_result(int(result.id)).job.scheduled_at == datetime.datetime(
            2090, 1, 1, tzinfo=datetime.UTC
        )


def test_without_time_zones_the_zone_of_the_current_user_changes_no_time() -> None:
    """Middleware of a project activates it for pages."""
    moment = datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC)
    connection.close()
    with backend(), override_settings(USE_TZ=False, TIME_ZONE="UTC"), timezone.override("Asia/Tokyo"):
        result = tasks.add.using(run_after=datetime.datetime(2090, 1, 1)).enqueue(1)
        assert app.job_manager.get_result(int(result.id)).job.scheduled_at == moment
        assert ProcrastinateJob.objects.get(pk=result.id).procrastinate_job.scheduled_at == moment
    connection.close()


def test_without_time_zones_a_job_at_the_end_of_time_has_a_result() -> None:
    """A retry strategy whose wait overflows schedules a job for then, which is the year 10000 in Tokyo."""
    end = datetime.datetime(9999, 12, 31, 23, 0)
    with backend(), override_settings(USE_TZ=False, TIME_ZONE="Asia/Tokyo"):
        result = tasks.add.enqueue(1)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = %s", [end.replace(tzinfo=datetime.UTC)])
        assert tasks.add.get_result(result.id).task.run_after == end


def test_a_taken_queueing_lock_leaves_the_transaction_usable() -> None:
    with backend(), transaction.atomic():
        task = tasks.add.using(queueing_lock="one")
        first = task.enqueue(1)
        with pytest.raises(exceptions.AlreadyEnqueued):
            task.enqueue(2)
        assert task.using(on_conflict="skip").enqueue(3).id == first.id
        assert ProcrastinateJob.objects.count() == 1


def test_a_backend_of_a_database_writes_arguments_as_the_app_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a project that encrypts them stores them in clear."""
    monkeypatch.setattr(app.connector, "json_dumps", lambda value: json.dumps({**value, "sealed": True}))
    _job_manager.cache_clear()
    try:
        with backend(database="default"):
            result = tasks.add.enqueue(1)
    finally:
        _job_manager.cache_clear()
    assert ProcrastinateJob.objects.get(id=result.id).args["sealed"]


def test_unique_of_a_task_comes_before_that_of_the_backend() -> None:
    with backend(unique=procrastinate.Unique(until="end")), transaction.atomic():
        first = tasks.add.enqueue(1)
        with pytest.raises(exceptions.AlreadyEnqueued) as info:
            tasks.add.enqueue(1)
        assert info.value.job_id == int(first.id)
        other = tasks.add.enqueue(2)
        shared = tasks.add.using(unique=procrastinate.Unique(by="sum", on_conflict="skip"))
        assert [shared.enqueue(1).id, shared.enqueue(2).id] == [str(int(other.id) + 1)] * 2
        assert tasks.add.using(queueing_lock="one").enqueue(1).id not in (first.id, other.id)


def test_a_key_that_another_has_just_taken_leaves_atomic_usable(database_url: str) -> None:
    task = tasks.add.using(unique=procrastinate.Unique(by="k", on_conflict="skip"))
    options = {"isolation_level": IsolationLevel.REPEATABLE_READ}
    with using_database(database_url, OPTIONS=options), backend():
        with transaction.atomic():
            assert ProcrastinateJob.objects.count() == 0
            with procrastinate.App(connector=database_url).open() as other:
                other.configure_task("other", unique=procrastinate.Unique(by="k")).defer()
            with pytest.raises(exceptions.AlreadyEnqueued):
                task.enqueue(1)
            assert tasks.add.enqueue(1).id
        assert ProcrastinateJob.objects.count() == 2
        assert task.enqueue(1).id == task.enqueue(2).id


def test_unique_with_a_queueing_lock_is_refused_where_it_is_written() -> None:
    with backend(), pytest.raises(framework.InvalidTask, match="Give unique or queueing_lock, not both"):
        tasks.add.using(unique=procrastinate.Unique(), queueing_lock="one")
    with backend(unique=True):
        (message,) = tasks.add.get_backend().check()
    assert "write unique=Unique" in message.msg


def test_a_limit_of_a_task_comes_before_that_of_the_backend_and_both_hold_on_a_worker() -> None:
    one = procrastinate.Limit("django one", concurrency=1)
    of_args = procrastinate.Limit("django args", by=lambda given: f"to {given['args'][0]}", total=9)
    with backend(limit=one):
        task = _declared(tasks.add, limit=of_args)
        jobs = [tasks.add.enqueue(1), task.enqueue(7), task.using(limit_key="mine").enqueue(7)]
        rows = ProcrastinateJob.objects.in_bulk([int(job.id) for job in jobs]).values()
        assert {(row.limit_name, row.limit_key) for row in rows} == {
            ("django one", ""),
            ("django args", "to 7"),
            ("django args", "mine"),
        }
        run_worker()
        for job in jobs:
            job.refresh()
            assert job.status == SUCCESSFUL
    assert [limit.is_defined for limit in app.limits.list() if limit.name.startswith("django ")] == [True, True]


@pytest.mark.parametrize("prefetch", [True, False], ids=["prefetch", "no prefetch"])
def test_no_more_tasks_run_at_once_than_a_limit_says(prefetch: bool) -> None:
    with backend(limit=procrastinate.Limit("django two", concurrency=2)):
        jobs = [int(tasks.add.using(run_after=due).enqueue(1).id) for due in (None, timezone.now()) * 5]
        run_worker(concurrency=5, prefetch=prefetch)
    running, most = 0, 0
    of_jobs = ProcrastinateEvent.objects.filter(job_id__in=jobs, type__in=("started", "succeeded")).order_by("id")
    for event in of_jobs:
        running += 1 if event.type == "started" else -1
        most = max(most, running)
    assert (len(of_jobs), running, most) == (20, 0, 2)


def test_the_weight_of_a_job_comes_from_the_call_the_task_or_the_backend() -> None:
    limit = procrastinate.Limit("django heavy", concurrency=5)
    with backend(limit=limit, weight=2):
        own = _declared(tasks.add, limit=limit, weight=3)
        jobs = [tasks.add.enqueue(1), own.enqueue(1), own.using(weight=4).enqueue(1)]
        rows = ProcrastinateJob.objects.in_bulk([int(job.id) for job in jobs])
        assert [rows[int(job.id)].limit_weight for job in jobs] == [2, 3, 4]
        with pytest.raises(ValueError, match="weight=6 is more than the limit 'django heavy' allows"):
            tasks.add.using(weight=6).enqueue(1)
        run_worker()
        for job in jobs:
            job.refresh()
            assert job.status == SUCCESSFUL
        with pytest.raises(framework.InvalidTask, match="weight=6 is more"):
            _declared(tasks.add, limit=limit, weight=6)
    with backend(limit=limit, weight=0):
        (message,) = tasks.add.get_backend().check()
    assert "weight must be at least 1" in message.msg


def test_a_mistaken_limit_is_refused_where_it_is_written() -> None:
    one = procrastinate.Limit("django twice", concurrency=1)
    with backend():
        _declared(tasks.add, limit=one)
        with pytest.raises(framework.InvalidTask, match="'django twice' is defined twice"):
            _declared(tasks.add, limit=dataclasses.replace(one, concurrency=2))
        with pytest.raises(framework.InvalidTask, match="leave queue= out"):
            _declared(tasks.add, limit=procrastinate.Limit("django mail", queue="mail", concurrency=1))
        with pytest.raises(TypeError, match="limit belongs to the declaration"):
            tasks.add.using(limit=one)
        with pytest.raises(ValueError, match="key of no limit"):
            tasks.add.using(limit_key="one").enqueue(1)
    with backend(limit=3):
        (message,) = tasks.add.get_backend().check()
    assert "limit must be a procrastinate.Limit" in message.msg


def test_a_lock_is_made_from_the_arguments() -> None:
    with backend(lock=lambda given: f"number-{given['args'][0]}"):
        result = tasks.add.enqueue(7)
        assert ProcrastinateJob.objects.get(pk=result.id).lock == "number-7"


def test_an_empty_lock_of_a_task_is_a_lock() -> None:
    with backend(lock="of the backend", queueing_lock="of the backend", on_conflict="skip"):
        result = tasks.add.using(lock="", queueing_lock="").enqueue(7)
        job = ProcrastinateJob.objects.get(pk=result.id)
        assert (job.lock, job.queueing_lock) == ("", "")


def test_what_a_worker_decides_is_not_for_using() -> None:
    with backend(), pytest.raises(TypeError, match=r"retry belongs to the declaration"):
        tasks.add.using(retry=3)


def test_a_value_becomes_json_or_the_task_has_failed() -> None:
    with backend():
        results = [tasks.release.enqueue(what) for what in ("tuple", "bytes", "function")]
        run_worker()
        for result in results:
            result.refresh()
        assert [result.status for result in results] == [SUCCESSFUL, SUCCESSFUL, FAILED]
        assert [result.return_value for result in results[:2]] == [[1, 2], "text"]
        assert results[2].errors[0].exception_class is TypeError


def test_arguments_that_are_no_json_are_refused() -> None:
    with backend(), pytest.raises(TypeError, match="Unsupported type"):
        tasks.add.enqueue({1, 2})


@pytest.mark.parametrize("result_id", ["0", "-1", "7" * 30, "no-number", "", None, "1 OR 1=1"])
def test_an_id_that_is_none_is_not_found(result_id: Any) -> None:
    with backend(), pytest.raises(framework.TaskResultDoesNotExist):
        tasks.add.get_backend().get_result(result_id)


def test_a_job_of_another_kind_is_not_found() -> None:
    job_id = app_task.defer(order_id=1)
    with backend(), pytest.raises(framework.TaskResultDoesNotExist):
        tasks.add.get_result(str(job_id))


def test_a_result_of_another_task_is_a_mismatch() -> None:
    with backend():
        result = tasks.add.enqueue(1)
        with pytest.raises(Exception, match="Task does not match"):
            tasks.ship.get_result(result.id)


def test_a_cancelled_job_has_failed() -> None:
    with backend():
        result = tasks.add.enqueue(1)
        app.job_manager.cancel_job_by_id(int(result.id))
        result.refresh()
        assert result.status == FAILED
        assert result.errors[0].exception_class is exceptions.JobAborted


def test_a_name_that_is_no_task_is_not_run() -> None:
    """A job names a function of the project, perhaps by mistake: it is not called."""
    job_id = app.configure_task("tests.django.shop.framework_tasks.not_a_task").defer(args=[], kwargs={})
    with backend():
        run_worker(unknown_task_timeout=0)
    assert ProcrastinateJob.objects.get(pk=job_id).status == "failed"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"retries": 3}, "'retries' is not an option of this backend: do you mean retry?"),
        ({"retry": "three"}, "three"),
        ({"retry": {"waits": 3}}, "waits"),
        ({"timeout": "soon"}, "timeout"),
        ({"on_conflict": "ignore"}, "on_conflict"),
        ({"database": "other"}, "not in DATABASES"),
    ],
)
def test_wrong_options_are_an_error_of_the_system_check(options: dict[str, Any], error: str) -> None:
    with backend(**options):
        (message,) = tasks.add.get_backend().check()
    assert error in message.msg


def test_a_module_with_tasks_can_be_imported_before_django_is_ready() -> None:
    """The backend is built by the decorator, at import."""
    program = f"""
import importlib
from django.conf import settings
settings.configure(TASKS={{"default": {{"BACKEND": "{BACKEND}"}}}}, INSTALLED_APPS=["procrastinate.contrib.django"])
task = importlib.import_module("{framework.NAME}").task
exec(compile("def add(a): return a", "tasks", "exec"))
task(add)
from django.apps import apps
assert not apps.ready
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_helpers_of_tests_take_these_tasks_too() -> None:
    with backend(), Jobs() as jobs, transaction.atomic():
        result = tasks.add.enqueue(1, b=2)
        app_task.defer(order_id=1)
        job = jobs.assert_deferred(tasks.add, {"queue": "default"}, a=1, b=2)
        assert str(job.id) == result.id
        jobs.assert_not_deferred(tasks.add, a=2)
        jobs.assert_not_deferred(tasks.add_async)
        with pytest.raises(AssertionError, match="b: 2, expected 3"):
            jobs.assert_deferred(tasks.add, b=3)
        (record,) = jobs.run(tasks=tasks.add)
        assert record.result == 3
        (record,) = jobs.run(tasks=[tasks.add_async, app_task])
        assert record.job.task_name == app_task.name
        transaction.set_rollback(True)


# Backends

DUMMY = f"{framework.NAME}.backends.dummy.DummyBackend"


def backends(**entries: Any) -> Any:
    """The setting ``TASKS``: a path of a backend, or the options of one of this queue's, for each alias."""
    return override_settings(
        TASKS={
            alias: {"BACKEND": value}
            if isinstance(value, str)
            else {"BACKEND": BACKEND, "QUEUES": [], "OPTIONS": value}
            for alias, value in entries.items()
        }
    )


def test_a_task_runs_that_is_declared_on_another_backend_and_enqueued_on_this_queues() -> None:
    with backends(default=DUMMY, queue={}):
        result = tasks.add.using(backend="queue").enqueue(1, b=2)
        run_worker()
        result.refresh()
        assert (result.status, result.return_value, result.backend) == (SUCCESSFUL, 3, "queue")
        read = result.task.get_result(result.id)
        assert (read.task.backend, read.backend, read.args, read.kwargs) == ("queue", "queue", [1], {"b": 2})
        read.refresh()


def test_an_async_task_runs_on_the_backend_that_it_was_enqueued_on() -> None:
    with backends(default=DUMMY, queue={}):
        result = tasks.add_async.using(backend="queue").enqueue(1, b=2)
        run_worker()
        result.refresh()
        assert (result.status, result.return_value) == (SUCCESSFUL, 3)


async def _enqueue_async(task: Any) -> Any:
    return await task.aenqueue()


def test_the_options_count_of_the_backend_that_a_job_was_enqueued_on() -> None:
    with backends(default={}, patient={"retry": 1}):
        once = tasks.fail.enqueue()
        twice = tasks.fail.using(backend="patient").enqueue()
        twice_async = asyncio.run(_enqueue_async(tasks.fail_async.using(backend="patient")))
        run_worker()
        for result, attempts, alias in ((once, 1, "default"), (twice, 2, "patient"), (twice_async, 2, "patient")):
            result.refresh()
            assert (result.status, len(result.errors), result.backend) == (FAILED, attempts, alias)


def test_a_result_is_of_the_backend_that_the_job_was_enqueued_on_whichever_is_asked() -> None:
    with backends(default={}, patient={}):
        result = tasks.add.using(backend="patient", queue_name="slow", priority=7).enqueue(1)
        read = tasks.add.get_result(result.id)
        assert (read.backend, read.task) == ("patient", result.task)


def test_a_job_runs_after_its_backend_was_given_another_alias() -> None:
    with backends(default=DUMMY, before={"retry": 1}):
        result = tasks.fail.using(backend="before").enqueue()
    with backends(default=DUMMY, after={"retry": 2}):
        run_worker()
        read = framework.task_backends["after"].get_result(result.id)
        assert (read.status, len(read.errors), read.backend) == (FAILED, 3, "after")


def test_a_backend_that_is_given_a_task_of_another_one_enqueues_it_as_its_own() -> None:
    with backends(default=DUMMY, queue={}):
        result = framework.task_backends["queue"].enqueue(tasks.add, [1], {})
        assert (result.task.backend, result.backend) == ("queue", "queue")
        run_worker()
        result.refresh()
        assert result.status == SUCCESSFUL


def test_the_signals_of_a_task_are_sent_by_the_backend_that_it_was_enqueued_on() -> None:
    senders = []

    def receive(sender: Any, **kwargs: Any) -> None:
        senders.append(sender)

    framework.task_finished.connect(receive)
    try:
        with backends(default=DUMMY, queue={}):
            tasks.add.using(backend="queue").enqueue(1)
            run_worker()
    finally:
        framework.task_finished.disconnect(receive)
    assert [sender.__name__ for sender in senders] == ["ProcrastinateBackend"]


def test_a_lock_of_all_arguments_is_the_same_on_every_backend() -> None:
    lock = by_arguments()
    with backends(default={"lock": lock}, other={"lock": lock}):
        tasks.add.enqueue(1)
        tasks.add.using(backend="other").enqueue(1)
        locks = set(ProcrastinateJob.objects.values_list("lock", flat=True))
        assert len(locks) == 1
        assert None not in locks


def test_a_backend_whose_package_a_worker_lacks_keeps_no_job_of_this_queue_from_running() -> None:
    with backends(queue={}, lacking="package_that_is_not_here.Backend", default=DUMMY):
        result = tasks.add.using(backend="queue").enqueue(1)
        run_worker()
        result.refresh()
        assert result.status == SUCCESSFUL


# Modules that cannot be imported

_BROKEN_MODULES = {
    "a name that is not defined": ("undefined_name", "builtins.NameError"),
    "a slip of the pen": ("def (", "builtins.SyntaxError"),
    "a package that is not installed": ("import package_that_is_not_here", "builtins.ModuleNotFoundError"),
    "a name that a module lacks": ("from json import name_that_is_not_there", "builtins.ImportError"),
    "an end of the program": ("raise SystemExit(3)", "builtins.SystemExit"),
    "an interrupt": ("raise KeyboardInterrupt", "builtins.KeyboardInterrupt"),
    "a backend that is gone": ("import tests.django.shop.framework_tasks as t; t.task(backend='gone')(print)", ""),
}


class _Module:
    """A module with a task that can be broken after a job of it was enqueued, as by a deploy, and mended."""

    def __init__(self, folder: pathlib.Path, name: str) -> None:
        self.file = folder / f"{name}.py"
        self.name = f"{shop.__name__}.{name}"
        self.write("")

    def write(self, text: str) -> None:
        """Begin the module with this text, and forget it: the next import reads it."""
        sys.modules.pop(self.name, None)
        importlib.invalidate_caches()
        whole = f"{text}\nfrom tests.django.shop.framework_tasks import task\n@task\ndef work(): return 'done'\n"
        self.file.write_text(whole)

    def load(self) -> Any:
        """Its task."""
        return importlib.import_module(self.name).work


@pytest.fixture
def module(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Module]:
    """A module that can be imported."""
    monkeypatch.setattr(shop, "__path__", [*shop.__path__, str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = _Module(tmp_path, f"broken_{uuid.uuid4().hex}")
    yield module
    sys.modules.pop(module.name, None)


@pytest.mark.parametrize(("text", "kind"), _BROKEN_MODULES.values(), ids=_BROKEN_MODULES)
def test_what_the_module_of_a_task_raises_is_an_error_of_the_run(
    module: _Module, text: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with backend():
        result = module.load().enqueue()
        module.write(text)
        run_worker()
        module.write("")
        result.refresh()
        assert result.status == FAILED
        [error] = result.errors
        assert error.exception_class_path == kind or not kind
        assert module.file.stem in error.traceback
        [record] = [record for record in caplog.records if getattr(record, "action", "") == "job_error"]
        assert record.exc_info is not None


def test_pages_and_checks_import_no_module_that_a_job_names(module: _Module) -> None:
    """Any role that may insert a job chooses the name, and a web process may have more rights than a worker."""
    dashboard = Dashboard(app)
    with backend():
        result = module.load().enqueue()
        module.write("")
        for path in ("jobs", f"jobs/{result.id}", "tasks"):
            page = dashboard.handle(Request(method="GET", path=path, access=Access.everything()))
            assert page.status == 200
            assert b"unknown to this program" not in page.body
        assert check_jobs(databases=["default"]) == []
        assert module.name not in sys.modules


def test_the_check_reports_a_job_whose_module_is_gone(module: _Module) -> None:
    with backend():
        module.load().enqueue()
        module.write("")
        module.file.unlink()
        importlib.invalidate_caches()
        (warning,) = check_jobs(databases=["default"])
    assert f"{module.name}.work: 1 job" in warning.msg


_MODULES_FOR_SYNC_CODE = {
    "reads the database": "from tests.django.shop.models import Order\nOrder.objects.count()",
    "has a loop of its own": "import asyncio\nasyncio.run(asyncio.sleep(0))",
}


@pytest.mark.parametrize("text", _MODULES_FOR_SYNC_CODE.values(), ids=_MODULES_FOR_SYNC_CODE)
def test_the_module_of_a_task_is_imported_as_sync_code(module: _Module, text: str) -> None:
    """The program that enqueues has imported it so. A worker looks for the task in its event loop."""
    with backend():
        result = module.load().enqueue()
        module.write(text)
        run_worker()
        result.refresh()
        assert (result.status, result.return_value) == (SUCCESSFUL, "done")


def test_no_connection_is_left_open_by_the_import_of_the_module_of_a_task(module: _Module) -> None:
    with backend():
        result = module.load().enqueue()
        module.write("from django.db import connection\nconnection.ensure_connection()\nlent = connection.connection")
        run_worker()
        result.refresh()
        assert result.status == SUCCESSFUL
        assert sys.modules[module.name].lent.closed


async def test_the_look_for_a_task_of_a_loaded_module_starts_no_thread(
    module: _Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = module.load()
    monkeypatch.setattr(task_results, "ThreadPoolExecutor", None)
    assert task_results.declared_task(f"{module.name}.work") is task


def test_a_task_whose_module_is_mended_runs_at_its_next_attempt(module: _Module) -> None:
    with backend(retry=1):
        result = module.load().enqueue()
        module.write("undefined_name")

        async def mend(call_next: Any, context: Any, worker: Any) -> Any:
            try:
                return await call_next()
            finally:
                module.write("")

        run_worker(worker_middleware=[mend])
        result.refresh()
        assert (result.status, result.return_value, len(result.errors)) == (SUCCESSFUL, "done", 1)


def test_a_module_that_is_gone_is_a_task_that_is_not_found(module: _Module, tmp_path: pathlib.Path) -> None:
    with backend():
        result = module.load().enqueue()
        module.write("")
        module.file.unlink()
        importlib.invalidate_caches()
        run_worker(unknown_task_timeout=0)
        kept = app.job_manager.get_result(int(result.id))
        assert kept.status == "failed"
        assert kept.errors[-1].exception_class == "procrastinate.exceptions.TaskNotFound"


# Times


@pytest.mark.parametrize("use_tz", [True, False])
def test_all_times_of_a_result_are_as_djangos_own_now(use_tz: bool) -> None:
    with backend(retry=1), override_settings(USE_TZ=use_tz), local_zone(settings.TIME_ZONE):
        before = timezone.now()
        soon = before + datetime.timedelta(hours=1)
        waiting = tasks.add.using(run_after=soon).enqueue(1)
        result = tasks.fail_first.enqueue()
        for _ in range(2):
            run_worker()
            result.refresh()
            after = timezone.now()
            moments = (result.enqueued_at, result.started_at, result.last_attempted_at, result.finished_at)
            assert all(before <= moment <= after for moment in moments)
        assert tasks.add.get_result(waiting.id).task == waiting.task


# Steps of workflows


def _adds_up() -> tuple[Any, Any]:
    """Return a workflow of these tasks, which takes the value of a step of the app, and its last step."""
    wf = app.workflow("sums")
    first = wf.add(tasks.add, a=1, b=2)
    pair = wf.group("pair")
    pair.add(tasks.add_async.as_step(first.value, 10))
    pair.add(tasks.add.as_step(5, b=first.value))
    return wf, wf.add(tasks.total.as_step(numbers=pair.values))


def test_a_task_is_a_step_and_takes_the_values_of_others() -> None:
    wf, last = _adds_up()
    workflow_id = wf.defer()
    run_worker()
    assert app.workflows.get(workflow_id).state == "succeeded"
    assert tasks.total.get_result(str(last.job_id)).return_value == 21


def test_a_task_that_is_declared_on_another_backend_is_a_step_on_this_queues() -> None:
    with backends(default=DUMMY, queue={}):
        declared = tasks.task(tasks.add.func)
        assert not hasattr(declared, "as_step")
        wf = app.workflow("sums")
        first = wf.add(declared.using(backend="queue"), a=1, b=2)
        last = wf.add(declared.using(backend="queue"), a=first.value, b=4)
        wf.defer()
        run_worker()
        assert app.job_manager.get_result(int(last.job_id or 0)).value == 7
        with pytest.raises(exceptions.InvalidWorkflow, match="is no task"):
            app.workflow("other").add(declared, a=1, b=2)
        with pytest.raises(exceptions.InvalidWorkflow, match="its backend 'default' does not store jobs in this queue"):
            tasks.add.using(backend="default").as_step(1)


def test_a_rollback_of_an_atomic_block_leaves_nothing_of_a_workflow() -> None:
    with transaction.atomic():
        wf, _ = _adds_up()
        workflow_id = wf.defer()
        assert app.workflows.get(workflow_id).counts.total == 4
        transaction.set_rollback(True)
    with pytest.raises(exceptions.WorkflowNotFound):
        app.workflows.get(workflow_id)
    assert app.job_manager.list_jobs() == []


def test_a_task_with_a_queueing_lock_is_no_step() -> None:
    wf = app.workflow("sums")
    with pytest.raises(exceptions.InvalidWorkflow, match="queueing lock"), backend(queueing_lock="one"):
        wf.add(tasks.add, a=1, b=2)


def test_a_whole_workflow_of_tasks_runs_inside_a_test_of_django() -> None:
    """The transaction of the test is never committed."""
    with transaction.atomic(), Jobs(app) as jobs:
        wf, last = _adds_up()
        workflow_id = wf.defer()
        jobs.run()
        assert app.workflows.get(workflow_id).state == "succeeded"
        assert tasks.total.get_result(str(last.job_id)).return_value == 21
        transaction.set_rollback(True)
