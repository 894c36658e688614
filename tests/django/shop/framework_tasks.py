"""Tasks of Django's own framework, declared as in any project."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from typing import Any

from procrastinate.adapters.django.task_backend import framework
from tests.django.shop.models import Order

task: Any = importlib.import_module(framework.NAME).task


@task
def add(a: int, b: int = 0) -> int:
    """Return a value."""
    return a + b


@task
async def add_async(a: int, b: int = 0) -> int:
    """Return a value, on the event loop."""
    await asyncio.sleep(0)
    return a + b


@task
def total(numbers: list[int]) -> int:
    """Return a sum."""
    return sum(numbers)


@task
def ship(order_id: int) -> None:
    """Change a row of the project."""
    Order.objects.filter(pk=order_id).update(product="shipped")


@task
def fail() -> None:
    """Fail."""
    raise ValueError("on purpose")


@task
async def fail_async() -> None:
    """Fail, on the event loop."""
    raise ValueError("on purpose")


@task(takes_context=True)
def fail_first(context: Any) -> int:
    """Fail, but for the second attempt."""
    if context.attempt == 1:
        raise ValueError("at first")
    attempt: int = context.attempt
    return attempt


@task(takes_context=True)
async def fail_first_async(context: Any) -> int:
    """Do the same, on the event loop."""
    attempt: int = fail_first.func(context)
    return attempt


@task(takes_context=True)
def look_back(context: Any) -> dict[str, Any]:
    """Return what a run knows of the runs before it."""
    result = context.task_result
    return {
        "attempt": context.attempt,
        "errors": [error.exception_class_path for error in result.errors],
        "enqueued": result.enqueued_at <= result.started_at < result.last_attempted_at,
    }


@task
def release(what: str) -> Any:
    """Return something that is not quite JSON, or not at all."""
    return {"tuple": (1, 2), "bytes": b"text", "function": lambda: None, "nul": "a\0b", "long": "x" * 2**21}[what]


@task
async def sleep() -> None:
    """Take longer than anyone waits."""
    await asyncio.sleep(600)


@task
async def outstay() -> str:
    """Return, but only when cancelled."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(600)
    return "late"


def not_a_task() -> None:
    """Nothing of the framework's."""
