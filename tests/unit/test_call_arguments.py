"""The arguments of a job are those that the function of its task takes."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest

from procrastinate._functions.signature import ANY_ARGUMENTS, read_call_arguments
from procrastinate.app import App
from procrastinate.blueprints import Blueprint
from procrastinate.limits import Limit
from procrastinate.locks import by_arguments
from procrastinate.unique import Unique
from tests.unit.recording import RecordingConnector


def quick(i: int, *, times: int = 1) -> None: ...


def injecting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds an argument that jobs do not have."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function("session", *args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ii": 1}, "Task quick takes no argument 'ii': it takes 'i', 'times'"),
        ({"i": 1, "more": 2}, "Task quick takes no argument 'more'"),
        ({}, "Task quick needs the argument 'i', which was not given"),
        ({"times": 2}, "Task quick needs the argument 'i'"),
    ],
)
def test_a_call_that_cannot_be_is_refused_at_every_way_to_defer(
    app: App, connector: RecordingConnector, given: dict[str, Any], message: str
) -> None:
    task: Any = app.task(name="quick")(quick)
    ways: list[Callable[[], Any]] = [
        lambda: task.defer(**given),
        lambda: task.batch_defer(given),
        lambda: task.batch_defer({"i": 1}, given),
        lambda: task.configure(task_kwargs=given).defer(),
        lambda: task.configure(queueing_lock="q").batch_defer(given),
        lambda: task.configure().make_new_job(**given),
        lambda: app.configure_task("quick").defer(**given),
    ]
    for defer in ways:
        with pytest.raises(TypeError, match=message):
            defer()
    assert connector.stored == []


async def test_a_call_that_cannot_be_is_refused_in_async_code(app: App) -> None:
    task: Any = app.task(name="quick")(quick)
    with pytest.raises(TypeError, match="'ii'"):
        await task.defer_async(ii=1)
    with pytest.raises(TypeError, match="'ii'"):
        await task.batch_defer_async({"ii": 1})


def test_arguments_may_come_in_two_steps(app: App, connector: RecordingConnector) -> None:
    app.task(name="quick")(quick).configure(task_kwargs={"times": 2}).defer(i=1)
    assert connector.stored[0].args == '{"times": 2, "i": 1}'


@pytest.mark.parametrize(
    "function",
    [
        lambda **kwargs: None,
        lambda a=0, b=0: None,
        injecting(lambda session, a, b: None),
        functools.partial(lambda x, a, b: None, 1),
        functools.partial(lambda a, b, c: None, c=3),
    ],
    ids=["any", "defaults", "a decorator that injects", "a partial", "a partial by name"],
)
def test_a_call_that_can_be_is_taken(app: App, connector: RecordingConnector, function: Callable[..., Any]) -> None:
    app.task(name="sum")(function).defer(a=1, b=2)
    assert len(connector.stored) == 1


def test_the_context_is_no_argument_of_a_job(app: App, connector: RecordingConnector) -> None:
    task: Any = app.task(name="quick", pass_context=True)(lambda context, i: None)
    task.defer(i=1)
    with pytest.raises(TypeError, match="takes no argument 'context'"):
        task.defer(context=1, i=1)


def test_a_task_that_is_known_by_its_name_alone_takes_anything(app: App, connector: RecordingConnector) -> None:
    app.configure_task("elsewhere").defer(anything=1)
    assert len(connector.stored) == 1


def test_an_app_may_take_any_arguments(connector: RecordingConnector) -> None:
    app = App(connector=connector, check_arguments=False)
    task: Any = app.task(name="quick")(quick)
    task.defer(ii=1)
    app.periodic(cron="* * * * *")(app.task(name="tick")(lambda: None))  # type: ignore[arg-type]
    assert len(connector.stored) == 1


def test_a_task_may_take_any_arguments_alone(app: App, connector: RecordingConnector) -> None:
    free: Any = app.task(name="free", check_arguments=False)(quick)
    app.task(name="quick")(quick)
    free.defer(ii=1)
    free.batch_defer({"ii": 1})
    app.periodic(cron="* * * * *")(app.task(name="tick", check_arguments=False)(lambda: None))  # type: ignore[arg-type]
    assert len(connector.stored) == 2
    with pytest.raises(TypeError, match="Task quick takes no argument"):
        app.configure_task("quick").defer(ii=1)


def test_the_check_of_a_task_can_be_turned_on_later(app: App) -> None:
    task: Any = app.task(name="quick", check_arguments=False)(quick)
    task.defer(ii=1)
    task.check_arguments = True
    with pytest.raises(TypeError, match="takes no argument"):
        task.defer(ii=1)


@pytest.mark.parametrize("options", [{"pass_context": True}, {}])
def test_a_function_that_no_job_can_call_is_refused_where_it_is_declared(options: dict[str, Any]) -> None:
    def by_position(a: int, /) -> None: ...

    def by_name(*, context: int) -> None: ...

    with pytest.raises(TypeError, match=r"by position"):
        Blueprint().task(**options)(by_name if options else by_position)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: None, "its function must take the argument 'timestamp'"),
        (lambda timestamp, shop: None, "needs the argument 'shop'"),
    ],
)
def test_a_schedule_none_of_whose_jobs_could_run_is_refused(function: Callable[..., Any], message: str) -> None:
    blueprint = Blueprint()
    with pytest.raises(TypeError, match=message):
        blueprint.periodic(cron="* * * * *")(blueprint.task(name="tick")(function))
    blueprint.periodic(cron="* * * * *", task_kwargs={"shop": 1})(
        blueprint.task(name="other")(lambda timestamp, shop: None)
    )


def test_a_lock_made_of_an_argument_that_is_not_taken_is_refused(app: App) -> None:
    with pytest.raises(TypeError, match="queueing_lock of task quick needs the argument 'j', which it does not take"):
        app.task(name="quick", queueing_lock=by_arguments("j"))(quick)


@pytest.mark.parametrize(
    "options",
    [{"worker_defaults": {"concurency": 2}}, {"worker_defaults": {"concurrency": "2"}}, {"import_paths": "shop.tasks"}],
)
def test_options_of_an_app_that_fail_in_every_worker_are_refused_where_they_are_written(
    connector: RecordingConnector, options: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match=r"concurency|concurrency must|import_paths takes a list"):
        App(connector=connector, **options)


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_a_name_from_a_variable_that_is_not_set_is_refused(app: App, empty: str) -> None:
    task = app.task(name="mail", queue="mail")(lambda: None)
    ways: list[Callable[[], Any]] = [
        lambda: task.configure(queue=empty),
        lambda: app.task(name="other", queue=empty)(print),
        lambda: app.task(name=empty)(print),
        lambda: app.task(name="other", aliases=[empty])(print),
        lambda: app.configure_task("elsewhere", queue=empty),
        lambda: app.configure_task(empty),
        lambda: app.periodic(cron="* * * * *", queue=empty),
        lambda: app.make_worker(queues=[empty]),
    ]
    for way in ways:
        with pytest.raises(ValueError, match="is empty"):
            way()


def test_a_wrapper_that_shows_the_signature_of_what_it_wraps_takes_any_arguments() -> None:
    def save(database: str, row: int) -> None: ...

    def with_database(**kwargs: Any) -> None:
        save("main", **kwargs)

    with_database.__signature__ = inspect.signature(save)  # type: ignore[attr-defined]
    assert read_call_arguments(with_database, takes_context=False) == ANY_ARGUMENTS


def test_a_proxy_of_a_function_takes_any_arguments() -> None:
    def save(database: str, row: int) -> None: ...

    class WithDatabase:
        __wrapped__ = staticmethod(save)

        def __call__(self, database: str, row: int) -> None: ...

    assert read_call_arguments(WithDatabase(), takes_context=False) == ANY_ARGUMENTS


@pytest.mark.parametrize("name", ["self", "cls", "task", "task_kwargs", "args", "kwargs", "connection"])
def test_an_argument_may_have_the_name_of_a_parameter_of_defer(
    app: App, connector: RecordingConnector, name: str
) -> None:
    task: Any = app.task(name="any")(lambda **kwargs: kwargs)
    task.defer(**{name: 1})
    task.configure(queue="q").defer(**{name: 1})
    app.configure_task("any").defer(**{name: 1})
    assert [json.loads(job.args) for job in connector.stored] == [{name: 1}] * 3
    assert task(**{name: 1}) == {name: 1}
    assert task.call(**{name: 1}).arguments == {name: 1}


def tick(timestamp: int, shop: int = 0) -> None: ...


@pytest.mark.parametrize("options", [{"lock": by_arguments("shop")}, {"unique": Unique(by=by_arguments("shop"))}])
def test_a_schedule_whose_jobs_lack_the_argument_of_a_lock_is_refused(options: dict[str, Any]) -> None:
    """Each tick would fail, although the function has a default for the argument."""
    message = "Task tick is periodic: its .* needs the argument 'shop', .* Give it in task_kwargs="
    of_task, of_schedule = Blueprint(), Blueprint()
    with pytest.raises(TypeError, match=message):
        of_task.periodic(cron="* * * * *")(of_task.task(name="tick", **options)(tick))
    with pytest.raises(TypeError, match=message):
        of_schedule.periodic(cron="* * * * *", **options)(of_schedule.task(name="tick")(tick))
    of_schedule.periodic(cron="* * * * *", task_kwargs={"shop": 1}, **options)(of_schedule.tasks["tick"])
    of_task.periodic(cron="* * * * *", lock="plain", unique=Unique(by="plain"))(of_task.task(name="other")(tick))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 2}, "weight=2 counts for no limit"),
        ({"limit_key": "a"}, "limit_key='a' is the key of no limit"),
        ({"weight": 4, "queue": "mail"}, "weight=4 is more than the limit 'mail' allows"),
    ],
)
def test_a_schedule_whose_jobs_its_limit_cannot_take_is_refused(
    connector: RecordingConnector, options: dict[str, Any], message: str
) -> None:
    app = App(connector=connector, limits=[Limit("mail", queue="mail", concurrency=3)])
    task = app.task(name="tick")(tick)
    with pytest.raises(ValueError, match=message):
        app.periodic(cron="* * * * *", **options)(task)
    app.periodic(cron="* * * * *", queue="mail", weight=3)(task)
