"""Tasks: functions that jobs call, and how their jobs are configured."""

from __future__ import annotations

import datetime
import functools
import json
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate._checks.times import utcnow
from procrastinate.app import App
from procrastinate.blueprints import Blueprint
from procrastinate.job_context import JobContext
from procrastinate.retry import RetryStrategy
from procrastinate.tasks import Task
from tests.unit.recording import RecordingConnector

LATER = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


# Names


def test_a_task_is_named_by_the_path_of_its_function(app: App) -> None:
    assert app.task(add).name == "tests.unit.test_tasks.add"
    assert app.tasks["tests.unit.test_tasks.add"].func is add


def test_a_task_can_be_given_a_name_and_aliases(app: App) -> None:
    task = app.task(name="sum", aliases=["total", "plus"])(add)
    assert app.tasks["sum"] is app.tasks["total"] is app.tasks["plus"] is task
    assert (task.name, task.aliases, task.full_path) == ("sum", ["total", "plus"], "tests.unit.test_tasks.add")


def test_a_function_without_a_name_needs_one(app: App) -> None:
    nameless = functools.partial(add, 1)
    with pytest.raises(exceptions.FunctionPathError, match="name="):
        app.task(nameless)
    assert app.task(name="increment")(nameless)() == 2


def test_the_decorator_takes_parentheses_or_none(app: App) -> None:
    assert isinstance(app.task(add), Task)
    assert isinstance(app.task()(lambda: None), Task)


def test_what_a_task_keeps_of_its_declaration(app: App) -> None:
    task: Task[Any, Any, Any] = app.task(
        name="t", queue="q", priority=3, lock="l", queueing_lock="ql", retry=2, pass_context=True
    )(lambda context: None)
    assert (task.queue, task.priority, task.lock, task.queueing_lock) == ("q", 3, "l", "ql")
    assert (task.retry_strategy, task.pass_context) == (RetryStrategy(max_attempts=2), True)
    assert task.blueprint is app


def test_an_unknown_option_of_a_declaration_is_refused(app: App) -> None:
    with pytest.raises(TypeError, match="retries"):
        app.task(retries=3)(add)  # type: ignore[call-overload]


def test_a_task_may_have_a_timeout(app: App) -> None:
    assert app.task(name="without")(add).timeout is None
    assert app.task(name="with", timeout=1.5)(add).timeout == 1.5


@pytest.mark.parametrize(
    ("wrong", "error"),
    [(0, ValueError), (-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)],
)
def test_a_timeout_that_is_none_is_refused_by_name(app: App, wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="timeout must be"):
        app.task(timeout=wrong)(add)


def test_a_task_still_is_the_function(app: App) -> None:
    task: Any = app.task(add)
    assert task(1, b=2) == 3
    assert (task.__name__, task.__doc__, task.__module__) == ("add", "Add two numbers.", __name__)
    assert task.__wrapped__ is add
    assert repr(task) == "<Task tests.unit.test_tasks.add>"


async def test_an_async_task_still_is_the_coroutine_function(app: App) -> None:
    @app.task
    async def double(number: int) -> int:
        return 2 * number

    assert await double(2) == 4
    assert double.is_async
    assert not app.task(add).is_async


# Defer


def test_a_task_defers(app: App, connector: RecordingConnector) -> None:
    task = app.task(name="add", queue="sums", priority=2, lock="l", queueing_lock="ql")(add)
    assert task.defer(a=1, b=2) == 1
    (job,) = connector.stored
    assert (job.task_name, job.queue_name, job.priority, job.lock, job.queueing_lock) == ("add", "sums", 2, "l", "ql")
    assert json.loads(job.args) == {"a": 1, "b": 2}


async def test_a_task_defers_in_all_its_ways(app: App, connector: RecordingConnector) -> None:
    task = app.task(add)
    assert await task.defer_async(a=1) == 1
    assert task.batch_defer({"a": 2}, {"a": 3}) == [2, 3]
    assert await task.batch_defer_async({"a": 4}) == [4]
    assert [json.loads(job.args)["a"] for job in connector.stored] == [1, 2, 3, 4]


async def test_positional_arguments_are_refused_and_not_dropped(app: App, connector: RecordingConnector) -> None:
    task: Any = app.task(name="add")(add)
    with pytest.raises(TypeError, match="Task add was deferred with positional arguments: name them"):
        task.defer(1, 2)
    with pytest.raises(TypeError, match="positional"):
        await task.defer_async(1, b=2)
    assert connector.stored == []


async def test_a_task_of_a_blueprint_alone_cannot_be_deferred() -> None:
    blueprint = Blueprint()
    task: Any = blueprint.task(add)
    for call in (task.defer, task.configure, task.batch_defer):
        with pytest.raises(exceptions.UnboundTaskError, match="add_tasks_from"):
            call()
    with pytest.raises(exceptions.UnboundTaskError, match="add_tasks_from"):
        await task.defer_async(a=1)
    with pytest.raises(exceptions.UnboundTaskError):
        _ = blueprint.job_manager


# Configure


def test_configure_overrides_the_task(app: App) -> None:
    task = app.task(name="add", queue="q", priority=1, lock="l", queueing_lock="ql")(add)
    job = task.configure(queue="q2", priority=2, lock="l2", queueing_lock="ql2", task_kwargs={"a": 1}).job
    assert (job.queue, job.priority, job.lock, job.queueing_lock) == ("q2", 2, "l2", "ql2")
    assert job.task_kwargs == {"a": 1}


def test_what_is_not_given_or_none_stays_as_the_task_has_it(app: App) -> None:
    task = app.task(name="add", queue="q", priority=1, lock="l", queueing_lock="ql")(add)
    for job in (task.configure().job, task.configure(queue=None, priority=None, lock=None, queueing_lock=None).job):
        assert (job.queue, job.priority, job.lock, job.queueing_lock) == ("q", 1, "l", "ql")


def test_a_priority_of_zero_is_a_priority(app: App) -> None:
    assert app.task(priority=5)(add).configure(priority=0).job.priority == 0


def test_the_pattern_does_not_share_the_callers_dict(app: App) -> None:
    common = {"a": 1}
    deferrer = app.task(add).configure(task_kwargs=common)
    common["a"] = 2
    assert deferrer.job.task_kwargs == {"a": 1}


def test_schedule_at(app: App) -> None:
    assert app.task(add).configure(schedule_at=LATER).job.scheduled_at == LATER


def test_schedule_in(app: App) -> None:
    scheduled_at = app.task(add).configure(schedule_in={"hours": 1, "seconds": -1}).job.scheduled_at
    assert scheduled_at is not None
    assert abs(scheduled_at - utcnow() - datetime.timedelta(seconds=3599)) < datetime.timedelta(seconds=5)


def test_schedule_in_takes_a_timedelta(app: App) -> None:
    scheduled_at = app.task(add).configure(schedule_in=datetime.timedelta(hours=1)).job.scheduled_at
    assert scheduled_at is not None
    assert abs((scheduled_at - utcnow()).total_seconds() - 3600) < 5


def test_schedule_in_zero_is_a_schedule(app: App) -> None:
    assert app.task(add).configure(schedule_in={}).job.scheduled_at is not None


@pytest.mark.parametrize("wait", [{"days": 10**9}, {"weeks": 10**6}, {"days": -(10**7)}])
def test_schedule_in_beyond_the_calendar_is_refused_by_name(app: App, wait: Any) -> None:
    """In 3.10, the job was scheduled for the end of the year 9999."""
    with pytest.raises(ValueError, match=r"schedule_in=.* is too far away"):
        app.task(add).configure(schedule_in=wait)


WRONG_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"queue": "q" * 129}, "The queue has 129 characters, 128 are allowed"),
    ({"queue": 5}, "The queue must be a str, not int: 5"),
    ({"queue": "a\0b"}, "The queue contains a NUL"),
    ({"lock": 5.5}, "The lock must be a str, not float: 5.5"),
    ({"lock": "l" * 2601}, "The lock has 2601 bytes, 2600 are allowed"),
    ({"queueing_lock": ["a"]}, "The queueing_lock must be a str, not list"),
    ({"priority": "high"}, "The priority must be a whole number .* not 'high'"),
    ({"priority": 2**31}, "The priority must be a whole number"),
]


@pytest.mark.parametrize(("options", "message"), WRONG_OPTIONS)
def test_what_no_job_can_have_is_refused_where_it_is_written(app: App, options: Any, message: str) -> None:
    """And not only when the first job is deferred."""
    with pytest.raises(exceptions.InvalidJob, match=message):
        app.task(**options)(add)
    with pytest.raises(exceptions.InvalidJob, match=message):
        Blueprint().task(**options)(add)
    with pytest.raises(exceptions.InvalidJob, match=message):
        app.task(name="right")(add).configure(**options)
    with pytest.raises(exceptions.InvalidJob, match=message):
        app.configure_task("elsewhere.task", **options)
    with pytest.raises(exceptions.InvalidJob, match=message):
        app.periodic(cron="* * * * *", **options)


@pytest.mark.parametrize("task_kwargs", ["a=1", [1], 5])
def test_common_arguments_that_are_no_dict_are_refused_by_name(app: App, task_kwargs: Any) -> None:
    with pytest.raises(TypeError, match="task_kwargs must be a dict"):
        app.task(add).configure(task_kwargs=task_kwargs)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "t" * 129}, exceptions.InvalidJob, "The task name has 129 characters, 128 are allowed"),
        ({"name": 5}, exceptions.InvalidJob, "The task name must be a str"),
        ({"aliases": ["t" * 129]}, exceptions.InvalidJob, "The task name has 129 characters"),
        ({"aliases": [None]}, exceptions.InvalidJob, "The task name must be a str, not NoneType"),
        ({"aliases": "old"}, TypeError, r"write aliases=\['old'\]"),
        ({"retry": -1}, ValueError, "retry must be at least 0 retries, not -1"),
        ({"retry": "3"}, TypeError, "retry= takes"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(app: App, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        app.task(**options)(add)
    assert not [name for name in app.tasks if "procrastinate.builtin_tasks" not in name]


def test_a_name_may_have_as_many_characters_as_its_column(app: App) -> None:
    task = app.task(name="t" * 128, queue="q" * 128)(add)
    assert (task.defer(a=1), task.queue) == (1, "q" * 128)
    with pytest.raises(exceptions.InvalidJob, match="129 characters"):
        app.configure_task("t" * 129)
    with pytest.raises(exceptions.InvalidJob, match="129 characters"):
        app.add_task_alias(task, "u" * 129)


def test_a_namespace_that_makes_a_name_too_long_takes_nothing_in(app: App) -> None:
    blueprint = Blueprint()
    blueprint.task(name="short")(add)
    blueprint.task(name="t" * 128)(add)
    with pytest.raises(exceptions.InvalidJob, match="130 characters"):
        app.add_tasks_from(blueprint, namespace="n")
    assert "n:short" not in app.tasks


@pytest.mark.parametrize("periodic_id", ["p" * 129, 5, None])
def test_a_periodic_id_that_cannot_be_stored_is_refused(app: App, periodic_id: Any) -> None:
    with pytest.raises(exceptions.InvalidJob, match="The periodic_id"):
        app.periodic(cron="* * * * *", periodic_id=periodic_id)


def test_both_schedules_are_refused(app: App) -> None:
    with pytest.raises(ValueError, match="schedule_at or schedule_in, not both"):
        app.task(add).configure(schedule_at=LATER, schedule_in={"seconds": 1})


def test_a_naive_schedule_is_refused_with_the_cure(app: App) -> None:
    with pytest.raises(ValueError, match=r"schedule_at must be an aware datetime.*tzinfo=datetime.timezone.utc"):
        app.task(add).configure(schedule_at=datetime.datetime(2030, 1, 1))


@pytest.mark.parametrize("wrong", ["tomorrow", datetime.date(2030, 1, 1), 1893456000])
def test_a_schedule_that_is_no_datetime_is_refused_by_name(app: App, wrong: Any) -> None:
    with pytest.raises(TypeError, match="schedule_at must be an aware datetime"):
        app.task(add).configure(schedule_at=wrong)


@pytest.mark.parametrize("wrong", [{"secs": 3}, {"seconds": "3"}, 3])
def test_a_wait_that_is_no_timedelta_is_refused_by_name(app: App, wrong: Any) -> None:
    with pytest.raises(TypeError, match="schedule_in"):
        app.task(add).configure(schedule_in=wrong)


def test_an_unknown_option_is_refused_by_name(app: App) -> None:
    with pytest.raises(TypeError, match="'quue'"):
        app.task(add).configure(quue="q")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'quue'"):
        app.configure_task("add", quue="q")  # type: ignore[call-arg]


# A queueing lock that is taken


def deferred_with(connector: RecordingConnector) -> list[str]:
    return [operation.__name__ for operation in connector.operations]


async def test_on_conflict_chooses_the_operation(app: App, connector: RecordingConnector) -> None:
    task = app.task(queueing_lock="ql", on_conflict="skip")(add)
    task.defer(a=1)
    await task.batch_defer_async({"a": 1}, {"a": 2})
    replacing = task.configure(on_conflict="replace")
    replacing.defer(a=1)
    await replacing.batch_defer_async({"a": 1}, {"a": 2})
    task.configure(on_conflict="raise").defer(a=1)
    assert deferred_with(connector) == [
        "defer_job_or_skip",
        "defer_jobs_or_skip",
        "defer_jobs_or_replace",
        "defer_jobs_or_replace",
        "defer_job",
    ]


def test_without_a_queueing_lock_there_is_no_conflict(app: App, connector: RecordingConnector) -> None:
    task = app.task(on_conflict="replace")(add)
    task.defer(a=1)
    task.batch_defer({"a": 1}, {"a": 2})
    assert deferred_with(connector) == ["defer_job", "defer_jobs_alike"]


def test_jobs_with_locks_of_their_own_are_not_alike(app: App, connector: RecordingConnector) -> None:
    task = app.task(lock=lambda kwargs: f"lock {kwargs['a']}")(add)
    task.batch_defer({"a": 1}, {"a": 2})
    assert deferred_with(connector) == ["defer_jobs"]


def test_a_task_that_is_changed_defers_other_jobs_from_then_on(app: App, connector: RecordingConnector) -> None:
    task = app.task(queue="before", priority=1)(add)
    task.defer(a=1)
    task.queue, task.priority = "after", 2
    task.defer(a=1)
    assert [(job.queue_name, job.priority) for job in connector.stored] == [("before", 1), ("after", 2)]


def test_a_task_defers_on_the_connector_that_its_app_has_now(app: App, connector: RecordingConnector) -> None:
    task = app.task(add)
    task.defer(a=1)
    other = RecordingConnector()
    with app.replace_connector(other):
        task.defer(a=2)
    task.defer(a=3)
    assert [json.loads(job.args)["a"] for job in other.stored] == [2]
    assert [json.loads(job.args)["a"] for job in connector.stored] == [1, 3]


def test_a_task_known_by_name_alone_may_replace_too(app: App, connector: RecordingConnector) -> None:
    app.configure_task("elsewhere.task", queueing_lock="ql", on_conflict="replace").defer(a=1)
    assert deferred_with(connector) == ["defer_jobs_or_replace"]


def test_another_value_of_on_conflict_is_refused_where_it_is_written(app: App) -> None:
    wrong: Any = "ignore"
    with pytest.raises(ValueError, match="on_conflict='ignore': write 'raise', 'skip' or 'replace'"):
        app.task(on_conflict=wrong)(add)
    with pytest.raises(ValueError, match="on_conflict='ignore'"):
        app.configure_task("elsewhere.task", on_conflict=wrong)


async def test_skip_raises_where_jobs_start_faster_than_they_are_found(app: App, connector: RecordingConnector) -> None:
    connector.taken = True
    task = app.task(queueing_lock="ql", on_conflict="skip")(add)
    with pytest.raises(exceptions.AlreadyEnqueued, match="'ql'"):
        task.defer(a=1)
    with pytest.raises(exceptions.AlreadyEnqueued, match="'ql'"):
        await task.defer_async(a=1)


# Configure by name


def test_a_known_task_is_configured_by_name_as_it_was_declared(app: App) -> None:
    app.task(name="add", queue="q", priority=4, aliases=["plus"])(add)
    job = app.configure_task("plus", lock="l").job
    assert (job.task_name, job.queue, job.priority, job.lock) == ("add", "q", 4, "l")


def test_an_unknown_task_is_deferred_for_a_worker_that_knows_it(app: App, connector: RecordingConnector) -> None:
    assert app.configure_task("elsewhere.task", queue="q").defer(a=1) == 1
    assert (connector.stored[0].task_name, connector.stored[0].queue_name) == ("elsewhere.task", "q")


def test_an_unknown_task_is_refused_if_unknown_tasks_are_not_allowed(app: App) -> None:
    with pytest.raises(exceptions.TaskNotFound, match=r"'elsewhere.task'"):
        app.configure_task("elsewhere.task", allow_unknown=False)


def test_tasks_take_a_context_without_defer_asking_for_it(app: App, connector: RecordingConnector) -> None:
    @app.task(pass_context=True)
    def with_context(context: JobContext, a: int) -> None: ...

    with_context.defer(a=1)
    assert json.loads(connector.stored[0].args) == {"a": 1}
