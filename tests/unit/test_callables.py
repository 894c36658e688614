"""Generator functions are no tasks, and what a task returns is awaited once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest

from procrastinate import App, Blueprint
from procrastinate._functions.kinds import settle
from procrastinate.testing import InMemoryConnector, Jobs


def generate(count: int = 1) -> Iterator[int]:
    yield from range(count)


async def generate_async() -> AsyncIterator[int]:
    yield 1


class Generates:
    def __call__(self) -> Iterator[int]:
        yield 1


class GeneratesAsync:
    async def __call__(self) -> AsyncIterator[int]:
        yield 1


GENERATORS = [generate, generate_async, functools.partial(generate, 3), Generates(), GeneratesAsync()]


@pytest.mark.parametrize("function", GENERATORS, ids=["sync", "async", "partial", "object", "async object"])
@pytest.mark.parametrize("declares", [App(connector=InMemoryConnector()), Blueprint()], ids=["app", "blueprint"])
def test_a_generator_function_is_refused_where_it_is_declared(
    declares: Blueprint, function: Callable[..., Any]
) -> None:
    with pytest.raises(TypeError, match="Task generates is a generator function"):
        declares.task(name="generates")(function)


@functools.wraps(generate)
def returns_a_generator() -> Any:
    return generate()


async def returns_an_async_generator() -> Any:
    return generate_async()


async def awaits_a_generator_of_another() -> Any:
    return returns_an_async_generator()


@pytest.mark.parametrize(
    "function", [lambda: generate(), returns_an_async_generator, awaits_a_generator_of_another], ids=["1", "2", "3"]
)
def test_a_task_that_returns_a_generator_fails(function: Callable[..., Any]) -> None:
    app = App(connector=InMemoryConnector())
    task = app.task(name="returns")(function)
    with Jobs(app) as jobs:
        task.defer()
        (record,) = jobs.run(raise_errors=False)
    assert record.status == "failed"
    assert isinstance(record.exception, TypeError)
    assert "returned a" in str(record.exception)


async def sends() -> None: ...


def failure_of(function: Callable[..., Any]) -> str:
    """Return what ends the job of a task with this function."""
    app = App(connector=InMemoryConnector())
    task = app.task(name="returns")(function)
    with Jobs(app) as jobs:
        task.defer()
        (record,) = jobs.run(raise_errors=False)
    assert record.status == "failed"
    return str(record.exception)


@contextlib.contextmanager
def open_shop() -> Iterator[None]:
    yield


@contextlib.asynccontextmanager
async def open_shop_async() -> AsyncIterator[None]:
    yield


LAZY = {
    "map": lambda: map(print, [1]),
    "filter": lambda: filter(print, [1]),
    "zip": lambda: zip([1], map(print, [1]), strict=True),
    "starmap": lambda: itertools.starmap(print, [(1,)]),
    "context": open_shop,
    "async context": open_shop_async,
}


@pytest.mark.parametrize("function", LAZY.values(), ids=LAZY)
def test_a_task_that_returns_calls_that_are_not_made_fails(function: Callable[..., Any]) -> None:
    assert "no line of it has run" in failure_of(function)


UNAWAITED = {
    "list": lambda: [sends()],
    "tuple": lambda: (1, sends()),
    "frozenset": lambda: frozenset([sends()]),
    "dict": lambda: {"sent": sends()},
}


@pytest.mark.parametrize("function", UNAWAITED.values(), ids=UNAWAITED)
def test_a_task_that_returns_a_list_of_coroutines_fails(function: Callable[..., Any]) -> None:
    assert "has returned coroutines, and none has run" in failure_of(function)


def test_a_task_that_returns_a_future_ends_as_the_future_does() -> None:
    """Such as one of a pool of threads, or of a coroutine in another event loop."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        assert failure_of(lambda: pool.submit(int, "no number")).startswith("invalid literal for int()")


AMONG = {
    "list": lambda future: [1, future],
    "tuple": lambda future: (future,),
    "set": lambda future: {future},
    "values of a dict": lambda future: {"a": future},
    "keys of a dict": lambda future: {future: "a"},
}


@pytest.mark.parametrize("put", AMONG.values(), ids=AMONG)
def test_a_job_fails_with_a_call_whose_future_its_task_returns_among_others(put: Callable[[Any], Any]) -> None:
    with ThreadPoolExecutor(max_workers=1) as pool:
        assert failure_of(lambda: put(pool.submit(int, "no number"))).startswith("invalid literal for int()")


async def test_a_job_waits_for_all_futures_of_a_list_before_it_fails_with_the_first_error() -> None:
    first, second = asyncio.get_running_loop().create_future(), concurrent.futures.Future[int]()
    settling = asyncio.create_task(settle("task", [first, second]))
    first.set_exception(ValueError("first"))
    await asyncio.wait([first])
    await asyncio.sleep(0)
    assert not settling.done()
    second.set_exception(ValueError("second"))
    with pytest.raises(ValueError, match="first"):
        await settling


async def test_a_cancelled_job_cancels_the_asyncio_tasks_that_its_task_has_returned() -> None:
    one = asyncio.create_task(asyncio.Event().wait())
    settling = asyncio.create_task(settle("task", [one]))
    await asyncio.sleep(0)
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    assert one.cancelled()


async def test_futures_settle_as_their_results() -> None:
    with ThreadPoolExecutor(max_workers=1) as pool:
        assert await settle("task", [1, pool.submit(int, "5")]) == [1, 5]
        assert await settle("task", {"a": pool.submit(int, "5"), "b": asyncio.create_task(sends())}) == {
            "a": 5,
            "b": None,
        }


@pytest.mark.parametrize("as_list", [True, False])
def test_a_task_that_returns_a_result_of_a_pool_of_multiprocessing_fails(as_list: bool) -> None:
    with ThreadPool(1) as pool:

        def submit() -> Any:
            result = pool.apply_async(int)
            return [result] if as_list else result

        assert "whose calls may go on: wait for them in the task" in failure_of(submit)


async def test_a_future_settles_as_its_result() -> None:
    with ThreadPoolExecutor(max_workers=1) as pool:
        assert await settle("task", pool.submit(int, "5")) == 5


class Runs:
    def run(self) -> None: ...


class Calls:
    def __call__(self) -> None: ...


@pytest.mark.parametrize("function", [Runs, Calls])
def test_a_class_that_a_job_would_not_run_is_refused_where_it_is_declared(function: type[Any]) -> None:
    app = App(connector=InMemoryConnector())
    with pytest.raises(TypeError, match="is a class, and a job would make an object without calling its"):
        app.task(name="task")(function)


def test_a_class_whose_constructor_does_the_work_is_a_task() -> None:
    app = App(connector=InMemoryConnector())
    app.task(name="task")(ValueError)


class Shop:
    @classmethod
    def sell(cls) -> None: ...

    @property
    def price(self) -> int:
        return 1


NOT_CALLABLE = [Shop.__dict__["sell"], Shop.__dict__["price"], None, "shop.sell", generate(), functools]


@pytest.mark.parametrize("function", NOT_CALLABLE, ids=lambda one: type(one).__name__)
def test_what_cannot_be_called_is_refused_where_it_is_declared(function: Any) -> None:
    with pytest.raises(TypeError, match=r"Task shop cannot be called: it is an? "):
        App(connector=InMemoryConnector()).task(name="shop")(function)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_a_coroutine_that_a_task_returns_is_awaited(is_async: bool) -> None:
    ran: list[int] = []

    async def inner() -> None:
        ran.append(1)

    async def outer() -> Any:
        return inner()

    app = App(connector=InMemoryConnector())
    task = app.task(name="returns")(outer if is_async else lambda: inner())
    with Jobs(app) as jobs:
        task.defer()
        jobs.run()
    assert ran == [1]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_a_job_ends_with_the_call_that_its_task_has_submitted_to_an_executor(is_async: bool) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as executor:

        def submit() -> Any:
            return executor.submit(int, "no number")

        async def submit_async() -> Any:
            return submit()

        assert "invalid literal for int()" in failure_of(submit_async if is_async else submit)


async def test_a_value_settles_as_itself() -> None:
    assert await settle("task", [1]) == [1]


@functools.singledispatch
def sends_any(message: object) -> None: ...


def test_a_function_that_chooses_by_position_is_refused_where_it_is_declared() -> None:
    """A partial of it gives that argument, and so does a context."""
    app = App(connector=InMemoryConnector())
    with pytest.raises(TypeError, match="Task sends is a singledispatch function"):
        app.task(name="sends")(sends_any)
    app.task(name="with context", pass_context=True)(sends_any)
    app.task(name="with argument")(functools.partial(sends_any, "hello"))
