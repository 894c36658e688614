"""Tasks that are declared and called as with Celery, on an app of this queue."""

from __future__ import annotations

import copy
import datetime
import decimal
import functools
import importlib
import inspect
import pathlib
import pickle
import sys
import uuid
from typing import Any
from unittest import mock

import pytest
from starlette.background import BackgroundTask

from procrastinate import App, JobContext, Limit, Rate, exceptions
from procrastinate.contrib import celery as stand_ins
from procrastinate.contrib.celery import CeleryTasks, Ignore, MaxRetriesExceededError, NotSupported
from procrastinate.from_celery.stored_call import StoredCall
from procrastinate.testing import InMemoryConnector, Jobs
from tests.unit.recording import make_job


@pytest.fixture
def connector() -> InMemoryConnector:
    """Keeps the jobs of a test."""
    return InMemoryConnector()


@pytest.fixture
def tasks(connector: InMemoryConnector) -> CeleryTasks:
    """An app of the project."""
    return CeleryTasks(App(connector=connector))


def run_worker(tasks: CeleryTasks) -> None:
    """Run what waits."""
    with tasks.app.open():
        tasks.app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False)


def test_the_limit_of_a_queue_takes_the_place_of_a_rate_limit(database_url: str) -> None:
    """The second job waits for its turn, and the message about ``rate_limit`` says how."""
    reports = Limit("reports", queue="reports", rate=Rate(1, per=3600))
    tasks = CeleryTasks(App(connector=database_url, limits=[reports]))
    ran: list[int] = []

    @tasks.task(queue="reports")
    def report(number: int) -> None:
        ran.append(number)

    with tasks.app.open():
        report.delay(1)
        report.delay(2)
    run_worker(tasks)
    assert ran == [1]
    with pytest.raises(NotSupported, match=r"give the queue of the task a limit.*PROCRASTINATE_LIMITS"):
        tasks.task(rate_limit="1/h")(print)


def only_job(connector: InMemoryConnector) -> dict[str, Any]:
    """The row of the one job."""
    (job,) = connector.jobs.values()
    return job


def seconds_until(moment: datetime.datetime) -> float:
    """Seconds from now."""
    return (moment - datetime.datetime.now(datetime.UTC)).total_seconds()


def test_a_task_runs_with_positional_and_named_arguments(tasks: CeleryTasks) -> None:
    seen = []

    @tasks.task
    def add(a: int, /, b: int, *rest: int, c: int = 0) -> None:
        seen.append((a, b, rest, c))

    add.delay(1, 2, 3, c=4)
    add.apply_async((5,), {"b": 6})
    tasks.send_task(add.name, [7, 8])
    assert add.name == "tests.from_celery.test_stand_ins.add"
    run_worker(tasks)
    assert seen == [(1, 2, (3,), 4), (5, 6, (), 0), (7, 8, (), 0)]


def test_a_call_runs_the_function_here(tasks: CeleryTasks) -> None:
    @tasks.task(bind=True)
    def who(self: Any, greeting: str) -> tuple[str, str, bool]:
        return greeting, self.name, self.request.called_directly

    assert who("hello") == ("hello", "tests.from_celery.test_stand_ins.who", True)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_call_inside_a_job_has_a_request_of_its_own(tasks: CeleryTasks, is_async: bool) -> None:
    """A task that is called as a function is not the job of its caller, and its retry is none of that job's."""
    seen: list[Any] = []

    @tasks.task(name="inner", bind=True)
    def inner(self: Any, number: int) -> None:
        seen.append((self.request.called_directly, self.request.id, list(self.request.args), outer.request.id))
        if number:
            inner(number - 1)

    @tasks.task(name="async inner", bind=True)
    async def async_inner(self: Any, number: int) -> None:
        inner(number)
        seen.append((self.request.called_directly, self.request.id, list(self.request.args), outer.request.id))

    def see_own(task: Any) -> None:
        seen.append((task.request.called_directly, task.request.id, list(task.request.args)))

    @tasks.task(name="outer", bind=True)
    def outer(self: Any) -> None:
        inner(1)
        see_own(self)

    if is_async:

        @tasks.task(name="async outer", bind=True)
        async def outer(self: Any) -> None:
            await async_inner(1)
            see_own(self)

    result = outer.delay()
    run_worker(tasks)
    inside = [(True, None, [1], result.id), (True, None, [0], result.id)]
    assert seen == [*inside, *inside[: int(is_async)], (False, result.id, [])]


@stand_ins.shared_task(name="tests.collect", bind=True)
async def collect(self: Any, number: int) -> int:
    """Collect."""
    return number


@stand_ins.shared_task(name="tests.double")
def double(number: int) -> int:
    return 2 * number


async def test_frameworks_take_a_task_for_its_function() -> None:
    """Starlette runs what is no coroutine function in a thread, and would never await the call."""
    assert inspect.iscoroutinefunction(collect)
    assert not inspect.iscoroutinefunction(double)
    assert str(inspect.signature(collect)) == "(number: 'int') -> 'int'"
    assert (collect.__name__, collect.__doc__) == ("collect", "Collect.")
    seen: list[int] = []

    @stand_ins.shared_task(name="tests.background")
    async def background(number: int) -> None:
        seen.append(number)

    await BackgroundTask(background, number=1)()
    assert seen == [1]


def test_a_task_is_pickled_and_copied_as_its_function() -> None:
    assert pickle.loads(pickle.dumps([collect, double])) == [collect, double]
    assert copy.deepcopy({"task": double})["task"] is double


def test_a_patched_async_task_is_a_mock_whose_delay_is_sync() -> None:
    with mock.patch(f"{__name__}.collect") as patched:
        patched.delay.return_value = 5
        assert collect.delay(1) == 5


def test_an_empty_queue_is_refused(tasks: CeleryTasks) -> None:
    """It usually comes from a variable that is not set."""

    @tasks.task
    def add() -> None: ...

    for declare in (
        lambda: add.apply_async(queue=""),
        lambda: tasks.task(queue="")(lambda: None),
        lambda: CeleryTasks(tasks.app, default_queue=""),
    ):
        with pytest.raises(exceptions.InvalidJob, match="empty"):
            declare()


def test_an_id_that_celery_has_drawn_is_that_of_no_job(tasks: CeleryTasks) -> None:
    """A project may have kept it."""
    for id_ in ("0b9b2c9e-6d0b-4b4c-9d0a-0a8a3a0f4a51", "9" * 40):
        result = tasks.AsyncResult(id_)
        assert (result.state, result.ready(), result.id) == ("PENDING", False, id_)
        result.revoke()
        with pytest.raises(NotSupported, match="forget"):
            result.forget()


def test_an_async_function_runs_on_the_loop(tasks: CeleryTasks) -> None:
    seen = []

    @tasks.task(bind=True)
    async def fetch(self: Any, url: str) -> None:
        seen.append((self.request.retries, url))

    fetch.delay("here")
    run_worker(tasks)
    assert seen == [(0, "here")]


def test_values_that_celerys_json_carries_arrive_as_they_were(tasks: CeleryTasks) -> None:
    seen: list[Any] = []
    values = [
        datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        datetime.date(2030, 1, 2),
        datetime.time(3, 4),
        uuid.UUID(int=7),
        decimal.Decimal("1.10"),
        {"__type__": "unknown", "__value__": 1},
        [1, {"a": None}],
    ]

    @tasks.task
    def take(*args: Any) -> None:
        seen.extend(args)

    take.delay(*values)
    run_worker(tasks)
    assert seen == values


def test_options_of_a_call_reach_the_job(tasks: CeleryTasks, connector: InMemoryConnector) -> None:
    @tasks.task(queue="mails", priority=3)
    def send() -> None: ...

    eta = datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC)
    send.delay()
    send.apply_async(eta=eta, queue="other", priority=9, serializer="json", retry=False)
    send.apply_async(countdown=60)
    first, second, third = connector.jobs.values()
    assert (first["queue_name"], first["priority"], first["scheduled_at"]) == ("mails", 3, None)
    assert (second["queue_name"], second["priority"], second["scheduled_at"]) == ("other", 9, eta)
    assert 50 < seconds_until(third["scheduled_at"]) <= 60


def test_over_redis_the_lowest_priority_comes_first(connector: InMemoryConnector) -> None:
    tasks = CeleryTasks(App(connector=connector), lowest_priority_first=True)
    seen: list[int] = []

    @tasks.task
    def note(number: int) -> None:
        seen.append(number)

    for priority in (6, 0, 3):
        note.apply_async((priority,), priority=priority)
    with tasks.app.open():
        tasks.app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False, concurrency=1)
    assert seen == [0, 3, 6]


def test_an_expired_job_does_not_start(tasks: CeleryTasks, connector: InMemoryConnector) -> None:
    @tasks.task(expires=3600)
    def note() -> None: ...

    note.delay()
    result = note.apply_async(expires=datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
    run_worker(tasks)
    assert [job["status"] for job in connector.jobs.values()] == ["succeeded", "aborted"]
    assert result.state == "REVOKED"


def test_a_job_expires_by_the_clock_of_a_test(tasks: CeleryTasks, connector: InMemoryConnector) -> None:
    @tasks.task
    def note() -> None: ...

    with Jobs(tasks.app) as jobs:
        note.apply_async(expires=3600)
        note.apply_async(expires=10_800)
        jobs.advance(hours=2)
        records = jobs.run(raise_errors=False)
    assert [record.status for record in records] == ["aborted", "succeeded"]


@pytest.mark.parametrize("expires", [float("inf"), 10**12, "tomorrow", float("nan")])
def test_a_duration_that_does_not_end_is_refused_by_name(tasks: CeleryTasks, expires: Any) -> None:
    @tasks.task
    def note() -> None: ...

    with pytest.raises((TypeError, ValueError), match="expires="):
        note.apply_async(expires=expires)


def test_self_retry_runs_the_job_again_and_then_raises_its_error(
    tasks: CeleryTasks, connector: InMemoryConnector
) -> None:
    seen: list[tuple[int, str]] = []

    @tasks.task(bind=True, max_retries=2)
    def flaky(self: Any, url: str) -> None:
        seen.append((self.request.retries, self.request.id))
        try:
            raise ConnectionError(url)
        except ConnectionError as error:
            self.retry(exc=error, countdown=0)

    result = flaky.delay("here")
    run_worker(tasks)
    assert seen == [(0, result.id), (1, result.id), (2, result.id)]
    assert only_job(connector)["status"] == "failed"


def test_self_retry_waits_as_declared_and_changes_queue_and_priority(
    tasks: CeleryTasks, connector: InMemoryConnector
) -> None:
    @tasks.task(bind=True, default_retry_delay=90)
    def flaky(self: Any) -> None:
        raise self.retry(throw=False, queue="slow", priority=5)

    flaky.delay()
    run_worker(tasks)
    job = only_job(connector)
    assert (job["status"], job["queue_name"], job["priority"]) == ("todo", "slow", 5)
    assert 80 < seconds_until(job["scheduled_at"]) <= 90


def test_a_retry_without_an_error_ends_in_max_retries_exceeded(tasks: CeleryTasks) -> None:
    caught: list[BaseException] = []

    @tasks.task(bind=True, max_retries=0)
    def flaky(self: Any) -> None:
        try:
            self.retry()
        except MaxRetriesExceededError as error:
            caught.append(error)

    flaky.delay()
    run_worker(tasks)
    assert "was retried 0 times" in str(caught[0])


def test_autoretry_for_retries_these_exceptions_with_backoff(tasks: CeleryTasks, connector: InMemoryConnector) -> None:
    @tasks.task(autoretry_for=(OSError,), retry_backoff=8, retry_backoff_max=10, retry_jitter=False, max_retries=5)
    def flaky(kind: str) -> None:
        raise {"os": OSError, "value": ValueError}[kind](kind)

    flaky.delay("os")
    flaky.delay("value")
    run_worker(tasks)
    again, ended = connector.jobs.values()
    assert (again["status"], ended["status"]) == ("todo", "failed")
    assert 5 < seconds_until(again["scheduled_at"]) <= 8


def test_autoretry_ends_after_max_retries(tasks: CeleryTasks, connector: InMemoryConnector) -> None:
    runs: list[int] = []

    @tasks.task(
        bind=True,
        autoretry_for=(Exception,),
        dont_autoretry_for=(KeyError,),
        retry_kwargs={"countdown": 0, "max_retries": 1},
    )
    def flaky(self: Any, error: str) -> None:
        runs.append(self.request.retries)
        raise {"key": KeyError, "value": ValueError}[error](error)

    flaky.delay("value")
    run_worker(tasks)
    assert runs == [0, 1]
    flaky.delay("key")
    run_worker(tasks)
    assert runs == [0, 1, 0]
    assert [job["status"] for job in connector.jobs.values()] == ["failed", "failed"]


@pytest.mark.parametrize("option", ["time_limit", "soft_time_limit"])
def test_a_time_limit_fails_the_run(tasks: CeleryTasks, connector: InMemoryConnector, option: str) -> None:
    @tasks.task(**{option: 0.05}, autoretry_for=(OSError,))
    async def sleep() -> None:
        import asyncio

        await asyncio.sleep(600)

    sleep.delay()
    run_worker(tasks)
    assert only_job(connector)["status"] == "failed"


def test_ignore_ends_the_job_well(tasks: CeleryTasks, connector: InMemoryConnector) -> None:
    @tasks.task
    def stop() -> None:
        raise Ignore

    stop.delay()
    run_worker(tasks)
    assert only_job(connector)["status"] == "succeeded"


def test_results_are_read_as_with_celery(tasks: CeleryTasks) -> None:
    @tasks.task(ignore_result=False)
    def half(number: int) -> decimal.Decimal:
        return decimal.Decimal(number) / 2

    @tasks.task
    def release_an_object() -> object:
        return object()

    result, other = half.delay(3), release_an_object.delay()
    assert (result.state, result.ready()) == ("PENDING", False)
    run_worker(tasks)
    assert (result.successful(), result.failed(), result.get(timeout=5), result.result) == (
        True,
        False,
        decimal.Decimal("1.5"),
        decimal.Decimal("1.5"),
    )
    assert tasks.AsyncResult(result.id).state == "SUCCESS"
    assert other.successful()
    with pytest.raises(exceptions.ResultNotAvailable):
        other.get(timeout=5)


@pytest.mark.parametrize(
    "use",
    [
        lambda task, tasks: task.delay(),
        lambda task, tasks: task.apply_async(countdown=5),
        lambda task, tasks: tasks.send_task("elsewhere"),
        lambda task, tasks: tasks.AsyncResult("1").state,
        lambda task, tasks: tasks.AsyncResult("1").get(timeout=1),
        lambda task, tasks: tasks.AsyncResult("1").result,
        lambda task, tasks: tasks.AsyncResult("1").revoke(),
    ],
)
def test_a_call_on_an_app_that_is_not_open_says_how_to_open_it(database_url: str, use: Any) -> None:
    """A program of Celery opens nothing, and has no method for it."""
    tasks = CeleryTasks(App(connector=database_url))
    with pytest.raises(exceptions.AppNotOpen, match=r"once at the start of the program: procrastinate_app\.open\(\)"):
        use(tasks.task(name="shop.report")(lambda: None), tasks)


@pytest.mark.parametrize("name", ["open", "open_async", "init_app"])
def test_opening_the_stand_in_names_the_app_to_open(tasks: CeleryTasks, name: str) -> None:
    with pytest.raises(NotSupported, match=r"open the app that was given to CeleryTasks"):
        getattr(tasks, name)


def test_revoke_cancels_a_waiting_job(tasks: CeleryTasks) -> None:
    @tasks.task
    def note() -> None: ...

    result = note.delay()
    result.revoke()
    assert (result.state, result.ready()) == ("REVOKED", True)


def test_arguments_that_the_function_does_not_take_are_refused_at_the_call(tasks: CeleryTasks) -> None:
    @tasks.task(bind=True)
    def note(self: Any, text: str) -> None: ...

    @tasks.task(typing=False)
    def loose() -> None: ...

    for call in (lambda: note.delay(), lambda: note.delay("a", "b"), lambda: note.delay(text="a", more=1)):
        with pytest.raises(TypeError):
            call()
    assert loose.delay(1).id


def test_a_decorator_may_give_the_function_an_argument(tasks: CeleryTasks) -> None:
    """Celery, too, checks a call against the signature of the wrapper."""
    received: list[tuple[str, str]] = []

    def send(client: str, to: str) -> None:
        received.append((client, to))

    @tasks.task
    @functools.wraps(send)
    def with_client(*args: Any, **kwargs: Any) -> None:
        send("client", *args, **kwargs)

    with Jobs(tasks.app) as jobs:
        with_client.delay("you")
        jobs.run()
    assert received == [("client", "you")]


def test_what_has_no_stand_in_is_refused_by_its_name(tasks: CeleryTasks) -> None:
    @tasks.task(bind=True)
    def note(self: Any) -> None: ...

    page = 'see "Canvas" of the page "From Celery"'
    for name in ("s", "si", "signature", "subtask", "map", "starmap", "chunks", "replace"):
        with pytest.raises(NotSupported, match=rf"note\.{name} belongs to Celery's canvas.*{page}"):
            getattr(note, name)
    for name in ("chain", "chord", "chunks", "group", "maybe_signature", "signature", "xmap", "xstarmap"):
        with pytest.raises(NotSupported, match=rf"^{name} belongs to Celery's canvas.*{page}"):
            getattr(stand_ins, name)(1)
    for options in ({"link": note}, {"link_error": note}, {"chord": 1}):
        with pytest.raises(
            NotSupported, match=rf"apply_async\({next(iter(options))}=\.\.\.\) belongs to Celery's canvas"
        ):
            note.apply_async(**options)
    for options in ({"headers": {}}, {"time_limit": 1}, {"routing_key": "a"}, {"unheard_of": 1}):
        with pytest.raises(NotSupported, match=rf"apply_async\({next(iter(options))}=\.\.\.\) has no stand-in"):
            note.apply_async(**options)
    for options in ({"base": object}, {"rate_limit": "1/m"}):
        with pytest.raises(NotSupported, match=rf"@task\({next(iter(options))}=\.\.\.\) has no stand-in"):
            tasks.task(**options)
    for name in ("conf", "config_from_object", "add_periodic_task", "control"):
        with pytest.raises(NotSupported, match=f"CeleryTasks has no '{name}'"):
            getattr(tasks, name)
    for name in ("apply", "run"):
        with pytest.raises(NotSupported, match=rf"has no '{name}': call the task, as in note\("):
            getattr(note, name)
    with pytest.raises(NotSupported, match="write ignore_result=False"):
        tasks.task(store_result=True)
    with pytest.raises(NotSupported, match=r"update_state"):
        note.update_state(state="PROGRESS")
    assert not hasattr(note, "s")


def test_an_option_that_nothing_reads_is_refused_where_it_is_given(tasks: CeleryTasks) -> None:
    @tasks.task(bind=True)
    def note(self: Any) -> None: ...

    for options in ({"ignore_result": False}, {"task_id": "a"}):
        with pytest.raises(NotSupported, match=rf"apply_async\({next(iter(options))}=\.\.\.\) has no stand-in"):
            note.apply_async(**options)
        with pytest.raises(NotSupported, match=rf"apply_async\({next(iter(options))}=\.\.\.\) has no stand-in"):
            tasks.send_task("elsewhere", **options)
    for options in ({"expires": 5}, {"connection": 1}, {"ignore_result": True}, {"time_limit": 1}):
        with pytest.raises(NotSupported, match=rf"self\.retry\({next(iter(options))}=\.\.\.\) has no stand-in"):
            note.retry(**options)
    for options in ({"priority": 1}, {"max_retires": 1}):
        with pytest.raises(NotSupported, match=rf"retry_kwargs\({next(iter(options))}=\.\.\.\) has no stand-in"):
            tasks.task(retry_kwargs=options)


def test_an_attribute_that_nothing_reads_cannot_be_set(tasks: CeleryTasks) -> None:
    @tasks.task
    def note() -> None: ...

    for name in ("Task", "conf", "user_options"):
        with pytest.raises(NotSupported, match=f"CeleryTasks has no '{name}' that could be set"):
            setattr(tasks, name, object)
    for name in ("queue", "autoretry_for", "rate_limit", "on_failure", "time_limit"):
        with pytest.raises(NotSupported, match=f"The attribute {name} of a task has no effect"):
            setattr(note, name, 1)
    note.short_description = "of the project's own"
    assert note.short_description == "of the project's own"


def test_a_countdown_comes_before_an_eta(tasks: CeleryTasks, connector: InMemoryConnector) -> None:
    eta = datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC)

    @tasks.task(bind=True)
    def flaky(self: Any) -> None:
        self.retry(countdown=60, eta=eta)

    flaky.delay()
    flaky.apply_async(countdown=60, eta=eta)
    run_worker(tasks)
    assert all(50 < seconds_until(job["scheduled_at"]) <= 60 for job in connector.jobs.values())


def test_backoff_comes_before_the_countdown_of_retry_kwargs(tasks: CeleryTasks, connector: InMemoryConnector) -> None:
    @tasks.task(autoretry_for=(OSError,), retry_backoff=8, retry_jitter=False, retry_kwargs={"countdown": 600})
    def flaky() -> None:
        raise OSError

    flaky.delay()
    run_worker(tasks)
    assert 5 < seconds_until(only_job(connector)["scheduled_at"]) <= 8


def test_a_retry_with_other_arguments_is_refused(tasks: CeleryTasks) -> None:
    @tasks.task(bind=True)
    def note(self: Any) -> None: ...

    with pytest.raises(NotSupported, match="a job keeps its arguments"):
        note.retry(args=(1,))


def test_a_naive_eta_is_refused(tasks: CeleryTasks) -> None:
    @tasks.task
    def note() -> None: ...

    for name in ("eta", "expires"):
        with pytest.raises(ValueError, match=name):
            note.apply_async(**{name: datetime.datetime(2040, 1, 1)})
    with pytest.raises(ValueError, match="eta"):
        stand_ins.Retry(eta=datetime.datetime(2040, 1, 1))


def test_shared_tasks_wait_for_an_app_and_come_before_or_after_it(connector: InMemoryConnector) -> None:
    program = "from procrastinate.contrib.celery import shared_task\n@shared_task\ndef shared_{0}(): pass\n"
    module = importlib.import_module("procrastinate.from_celery.app")
    shared = module._SharedTasks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_shared", shared)
        before: dict[str, Any] = {"__name__": "shop.before"}
        exec(program.format("early"), before)
        with pytest.raises(exceptions.UnboundTaskError, match=r"shop\.before\.shared_early belongs to no app"):
            before["shared_early"].delay()
        tasks = CeleryTasks(App(connector=connector))
        after: dict[str, Any] = {"__name__": "shop.after"}
        exec(program.format("late"), after)
        before["shared_early"].delay()
        after["shared_late"].delay()
        run_worker(tasks)
    assert [(job["task_name"], job["status"]) for job in connector.jobs.values()] == [
        ("shop.before.shared_early", "succeeded"),
        ("shop.after.shared_late", "succeeded"),
    ]


def test_a_module_that_is_reloaded_declares_its_tasks_again(
    tasks: CeleryTasks, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reloaded_tasks.py").write_text(
        "from procrastinate.contrib.celery import shared_task\n@shared_task\ndef note(): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("reloaded_tasks")
    importlib.reload(module)
    assert tasks.tasks["reloaded_tasks.note"] is module.note
    sys.modules.pop("reloaded_tasks")


def test_two_tasks_of_one_name_are_refused(tasks: CeleryTasks) -> None:
    @tasks.task(name="shop.note")
    def first() -> None: ...

    with pytest.raises(exceptions.TaskAlreadyRegistered):

        @tasks.task(name="shop.note")
        def second() -> None: ...


def test_autodiscovered_modules_are_imported_by_workers(tasks: CeleryTasks) -> None:
    tasks.autodiscover_tasks(["tests.from_celery", "tests.django.shop"])
    assert tasks.app.import_paths == ["tests.django.shop.tasks"]


def test_what_is_no_package_has_no_module_to_discover(
    tasks: CeleryTasks, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list such as ``INSTALLED_APPS`` also has modules, and paths of classes in a module."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "one_module.py").write_text("class Config: pass")
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package" / "__init__.py").write_text("import a_missing_dependency")
    tasks.autodiscover_tasks(lambda: ["one_module", "one_module.Config", "tests.django.shop"])
    tasks.autodiscover_tasks(None, force=True)
    tasks.autodiscover_tasks(["one_module"], related_name=None)
    assert tasks.app.import_paths == ["tests.django.shop.tasks", "one_module"]
    for name in ("no_such_package", "tests.no_such_package", "broken_package"):
        with pytest.raises(ModuleNotFoundError):
            tasks.autodiscover_tasks([name])
    with pytest.raises(TypeError, match=r"write \['shop'\]"):
        tasks.autodiscover_tasks("shop")


def test_dates_of_another_library_arrive_as_dates(tasks: CeleryTasks) -> None:
    class Date(datetime.date): ...

    class Time(datetime.time): ...

    ran: list[Any] = []

    @tasks.task
    def note(*values: Any) -> None:
        ran.extend(values)

    note.delay(Date(2026, 1, 2), Time(3, 4))
    run_worker(tasks)
    assert ran == [datetime.date(2026, 1, 2), datetime.time(3, 4)]


def test_an_argument_may_have_the_name_of_a_parameter_of_delay(tasks: CeleryTasks) -> None:
    ran: list[Any] = []

    @tasks.task
    def note(**arguments: Any) -> None:
        ran.append(arguments)

    note.delay(self=1)
    note.delay_on_commit(self=2)
    note(self=3)
    run_worker(tasks)
    assert ran == [{"self": 3}, {"self": 1}, {"self": 2}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"default_retry_delay": "10"}, "default_retry_delay must be a number of seconds, not '10'"),
        ({"default_retry_delay": -1}, "default_retry_delay must be 0 seconds or more"),
        ({"retry_backoff": "5"}, "retry_backoff must be a number of seconds, not '5'"),
        ({"retry_backoff_max": None}, "retry_backoff_max must be a number of seconds, not None"),
        ({"retry_backoff_max": "600"}, "retry_backoff_max must be a number of seconds"),
        ({"retry_kwargs": {"countdown": "5"}}, "countdown of retry_kwargs must be a number of seconds"),
        ({"retry_kwargs": {"max_retries": "5"}}, "max_retries of retry_kwargs must be a whole number of retries"),
        ({"max_retries": "3"}, "max_retries must be a whole number of retries, not '3'"),
        ({"max_retries": -1}, "max_retries must be at least 0 retries"),
        ({"expires": "60"}, "expires must be a number of seconds, not '60'"),
        ({"autoretry_for": "ValueError"}, "autoretry_for takes classes of exceptions, not 'ValueError'"),
        ({"autoretry_for": (ValueError, "OSError")}, "autoretry_for takes classes of exceptions, not 'OSError'"),
        ({"dont_autoretry_for": [5]}, "dont_autoretry_for takes classes of exceptions, not 5"),
    ],
)
def test_a_value_that_would_fail_each_job_is_refused_where_it_is_written(
    tasks: CeleryTasks, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        tasks.task(**options)(print)


def test_the_time_of_the_claim_decides_whether_a_job_has_expired(tasks: CeleryTasks) -> None:
    """It is by the clock of the database. The clock of the worker's machine may be wrong."""
    seen = []

    @tasks.task
    def note() -> None:
        seen.append("ran")

    now = datetime.datetime.now(datetime.UTC)
    arguments = StoredCall(expires=now - datetime.timedelta(hours=1)).as_arguments()

    def run(claimed_at: datetime.datetime) -> None:
        job = make_job(task_name=note.name, claimed_at=int(claimed_at.timestamp() * 1_000_000))
        tasks.app.tasks[note.name].func(JobContext(app=tasks.app, job=job), **arguments)

    run(now - datetime.timedelta(hours=2))
    with pytest.raises(exceptions.JobAborted, match="The job has expired"):
        run(now)
    assert seen == ["ran"]
