"""A task stands in for its function: frameworks and the standard library take it for one."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import typing
from collections.abc import Callable
from typing import Annotated, Any
from unittest import mock

import asgiref.sync
import fastapi
import httpx
import pytest
from django.dispatch import Signal
from starlette.background import BackgroundTask

from procrastinate.app import App
from procrastinate.blueprints import Blueprint

blueprint = Blueprint()


@blueprint.task
async def send(letter: int, *, copies: int = 1) -> int:
    """Send letters."""
    return letter * copies


@blueprint.task
def count(letters: list[int]) -> int:
    return len(letters)


class AsyncCallable:
    async def __call__(self, letter: int) -> int:
        return letter


KINDS: dict[str, Callable[[Any], bool]] = {
    "inspect": inspect.iscoroutinefunction,
    "asyncio": asyncio.iscoroutinefunction,
    "asgiref": asgiref.sync.iscoroutinefunction,
    "partial": lambda task: inspect.iscoroutinefunction(functools.partial(task, 1)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_async_task_is_a_coroutine_function_and_a_sync_one_is_none(kind: str) -> None:
    assert KINDS[kind](send)
    assert not KINDS[kind](count)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_task_of_an_async_object_is_a_coroutine_function(app: App) -> None:
    assert asyncio.iscoroutinefunction(app.task(name="object")(AsyncCallable()))


async def test_a_background_task_of_starlette_awaits_an_async_task() -> None:
    sent = []

    @blueprint.task(name="background")
    async def background(letter: int) -> None:
        sent.append(letter)

    await BackgroundTask(background, letter=1)()
    assert sent == [1]


async def test_a_task_may_be_a_dependency_and_an_endpoint_of_fastapi() -> None:
    web = fastapi.FastAPI()

    @web.get("/")
    async def endpoint(sent: Annotated[int, fastapi.Depends(send)]) -> int:
        return sent

    web.get("/send")(send)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://test") as client:
        assert (await client.get("/", params={"letter": 2, "copies": 3})).json() == 6
        assert (await client.get("/send", params={"letter": 2})).json() == 2


def test_a_task_is_described_as_its_function() -> None:
    assert str(inspect.signature(send)) == "(letter: 'int', *, copies: 'int' = 1) -> 'int'"
    assert typing.get_type_hints(count) == {"letters": list[int], "return": int}
    assert (send.__name__, send.__doc__, send.__module__) == ("send", "Send letters.", __name__)
    assert inspect.unwrap(send) is send.func
    assert functools.wraps(send)(lambda: None).__name__ == "send"


def test_a_task_is_pickled_and_copied_as_its_function() -> None:
    assert pickle.loads(pickle.dumps(send)) is send
    assert copy.copy(send) is send
    assert copy.deepcopy({"task": send})["task"] is send


def test_a_task_may_be_a_key_and_a_member() -> None:
    assert {send: 1}[send] == 1
    assert send in {send, count}
    assert send != count


@pytest.mark.parametrize("name", ["send", "count"])
def test_a_patched_task_is_a_mock_whose_defer_is_sync(name: str) -> None:
    with mock.patch(f"{__name__}.{name}") as patched:
        patched.defer.return_value = 5
        assert globals()[name].defer(letter=1) == 5


@pytest.mark.parametrize("name", ["send", "count"])
@pytest.mark.parametrize("how", ["autospec", "spec", "spec_set"])
async def test_a_task_that_is_patched_by_its_specification_defers_as_a_task(name: str, how: str) -> None:
    with mock.patch(f"{__name__}.{name}", **{how: True}) as patched:
        task = globals()[name]
        patched.defer.return_value = 5
        patched.defer_async.return_value = 6
        patched.configure.return_value.defer.return_value = 7
        assert task.defer(letter=1) == 5
        assert await task.defer_async(letter=1) == 6
        assert task.configure(lock="a").defer(letter=1) == 7


@pytest.mark.parametrize("task", [send, count], ids=["async", "sync"])
def test_a_task_is_no_bound_method(task: Any) -> None:
    """Code that finds ``__func__`` asks for ``__self__``: Django's signals, inspect and others."""
    assert not hasattr(task, "__func__")
    assert not hasattr(task, "__self__")
    assert not inspect.ismethod(task)


async def test_a_task_receives_a_signal_of_django() -> None:
    received: list[Any] = []
    receivers = Blueprint()

    @receivers.task
    async def receive_async(**arguments: Any) -> None:
        received.append(arguments["order"])

    @receivers.task
    def receive(**arguments: Any) -> None:
        received.append(arguments["order"])

    signal = Signal()
    signal.connect(receive_async)
    signal.connect(receive, weak=False)
    await signal.asend(sender=None, order=7)
    assert received == [7, 7]
    assert signal.disconnect(receive_async)
    assert not signal.disconnect(receive_async)
