"""Locks that are made from the arguments of a job."""

from __future__ import annotations

import functools
import json
import operator
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from procrastinate import by_arguments, exceptions
from procrastinate.app import App
from procrastinate.blueprints import Blueprint
from procrastinate.limits import Limit
from procrastinate.unique import Unique
from tests.unit.recording import RecordingConnector


def bill(customer_id: int, month: str = "May") -> None:
    """What a customer owes."""


def locks(connector: RecordingConnector) -> list[str | None]:
    return [job.lock for job in connector.stored]


async def test_a_function_makes_the_locks_of_each_job(app: App, connector: RecordingConnector) -> None:
    task = app.task(
        lock=lambda kwargs: f"customer-{kwargs['customer_id']}",
        queueing_lock=lambda kwargs: f"bill-{kwargs['customer_id']}",
    )(bill)
    task.defer(customer_id=1)
    await task.batch_defer_async({"customer_id": 2}, {"customer_id": 3})
    assert locks(connector) == ["customer-1", "customer-2", "customer-3"]
    assert [job.queueing_lock for job in connector.stored] == ["bill-1", "bill-2", "bill-3"]


def test_arguments_that_jobs_have_in_common_count_too(app: App, connector: RecordingConnector) -> None:
    task = app.task(name="bill", lock=by_arguments("customer_id"))(bill)
    task.configure(task_kwargs={"customer_id": 1}).defer(month="June")
    assert locks(connector) == ['bill{"customer_id":1}']


def test_a_function_may_leave_a_job_without_a_lock(app: App, connector: RecordingConnector) -> None:
    app.task(lock=lambda kwargs: None)(bill).defer(customer_id=1)
    assert locks(connector) == [None]


def test_one_set_of_arguments_is_one_lock(app: App, connector: RecordingConnector) -> None:
    task = app.task(name="bill", lock=by_arguments())(lambda customer_id=0, month="": None)
    task.batch_defer({"customer_id": 1, "month": "é"}, {"month": "é", "customer_id": 1}, {"customer_id": 1}, {})
    first, second, third, fourth = locks(connector)
    assert first == second == 'bill{"customer_id":1,"month":"\\u00e9"}'
    assert (third, fourth) == ('bill{"customer_id":1}', "bill{}")


def test_another_task_has_another_lock(app: App, connector: RecordingConnector) -> None:
    for name in ("bill", "remind"):
        app.task(name=name, lock=by_arguments("customer_id"))(bill).defer(customer_id=1)
    assert len(set(locks(connector))) == 2


def test_a_lock_of_long_arguments_is_short(app: App, connector: RecordingConnector) -> None:
    task = app.task(name="bill", lock=by_arguments())(bill)
    task.batch_defer(*({"customer_id": 1, "month": "x" * length} for length in (5000, 5000, 5001)))
    first, second, third = locks(connector)
    assert first is not None
    assert first == second != third
    assert len(first) == len("bill") + 64


def test_arguments_count_as_they_are_stored() -> None:
    connector = RecordingConnector()
    connector.json_dumps = lambda value: json.dumps(value, default=str)
    customer = uuid.UUID(int=1)
    task: Any = App(connector=connector).task(name="bill", lock=by_arguments("customer_id"))(bill)
    task.batch_defer({"customer_id": customer}, {"customer_id": str(customer)})
    assert len(set(locks(connector))) == 1


def test_a_configured_lock_goes_before_that_of_the_task(app: App, connector: RecordingConnector) -> None:
    made = app.task(lock=by_arguments("customer_id"))(bill)
    made.configure(lock="plain").defer(customer_id=1)
    plain = app.task(name="plain", lock="own")(bill)
    plain.configure(lock=by_arguments("customer_id")).defer(customer_id=1)
    app.configure_task("elsewhere", lock=by_arguments("customer_id")).defer(customer_id=1)
    assert locks(connector) == ["plain", 'plain{"customer_id":1}', 'elsewhere{"customer_id":1}']


def test_a_plain_lock_with_braces_is_that_text(app: App, connector: RecordingConnector) -> None:
    task = app.task(lock="customer-{customer_id}")(bill)
    task.defer(customer_id=1)
    assert task.lock == "customer-{customer_id}"
    assert locks(connector) == ["customer-{customer_id}"]


def test_a_task_of_a_blueprint_has_the_lock_of_its_new_name(app: App, connector: RecordingConnector) -> None:
    blueprint = Blueprint()
    task = blueprint.task(name="bill", lock=by_arguments("customer_id"))(bill)
    app.add_tasks_from(blueprint, namespace="sales")
    task.defer(customer_id=1)
    assert locks(connector) == ['sales:bill{"customer_id":1}']


@pytest.mark.parametrize("lock", [by_arguments("month"), lambda kwargs: kwargs["month"]])
@pytest.mark.parametrize("option", ["lock", "queueing_lock"])
def test_an_argument_that_is_missing_is_named(app: App, option: str, lock: Any) -> None:
    options: Any = {option: lock}
    with pytest.raises(exceptions.InvalidJob, match=f"The {option} of task bill .*argument 'month'.*not given"):
        app.task(name="bill", **options)(bill).defer(customer_id=1)


@pytest.mark.parametrize(
    ("lock", "message"),
    [
        (lambda kwargs: 5, "The lock of task bill must be a str or None, not 5"),
        (lambda kwargs: 1 / 0, r"The lock of task bill cannot be made of its arguments \(customer_id\).*division"),
    ],
)
def test_a_function_that_makes_no_lock_is_told_with_its_task(app: App, lock: Any, message: str) -> None:
    with pytest.raises(exceptions.InvalidJob, match=message):
        app.task(name="bill", lock=lock)(bill).defer(customer_id=1)


def test_arguments_that_are_not_json_are_told_with_the_task(app: App) -> None:
    wrong: Any = object()
    with pytest.raises(exceptions.InvalidJob, match="The lock of task bill is made of arguments customer_id"):
        app.task(name="bill", lock=by_arguments())(bill).defer(customer_id=wrong)


async def lock_of_month(kwargs: Any) -> str:
    return "May"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lock_of_month, "must not be async"),
        (lambda customer_id, month: "x", r"is called with \(arguments\).*missing a required argument: 'month'"),
        (lambda: "x", "too many positional arguments"),
        (lambda **kwargs: "x", "too many positional arguments"),
    ],
    ids=["async", "two", "none", "by name"],
)
def test_a_function_that_cannot_make_a_lock_is_refused_where_it_is_written(
    app: App, function: Any, message: str
) -> None:
    ways: list[Callable[[], Any]] = [
        lambda: app.task(name="bill", lock=function)(bill),
        lambda: app.task(name="bill", queueing_lock=function)(bill),
        lambda: Unique(by=function),
        lambda: Limit("bills", by=function, concurrency=1),
    ]
    for way in ways:
        with pytest.raises(TypeError, match=message):
            way()


@pytest.mark.parametrize(
    "function",
    [str, len, operator.itemgetter("month"), "{month}".format_map, functools.partial(lambda prefix, kwargs: "x", "a")],
    ids=["class", "builtin", "object in C", "method in C", "partial"],
)
def test_a_function_of_one_argument_may_make_a_lock(app: App, function: Any) -> None:
    app.task(name="bill", lock=function, limit=Limit("bills", by=function, concurrency=1))(bill)
    Unique(by=function)


def test_a_list_of_names_of_arguments_is_refused() -> None:
    with pytest.raises(TypeError, match=r"by_arguments takes names of arguments.*not \['customer_id'\]"):
        by_arguments(["customer_id"])  # type: ignore[arg-type]
