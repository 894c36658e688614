"""Tasks for the tests of workflows."""

from __future__ import annotations

import dataclasses
from typing import Any

from procrastinate.app import App


@dataclasses.dataclass
class Notes:
    """The tasks of an app, and what their jobs noted, in order."""

    note: Any
    double: Any
    total: Any
    fail: Any
    flaky: Any
    ran: list[Any] = dataclasses.field(default_factory=list)


def declare(app: App) -> Notes:
    """Declare the tasks."""
    ran: list[Any] = []

    @app.task
    async def note(name: Any = None) -> None:
        ran.append(name)

    @app.task(store_result=True)
    async def double(number: int) -> int:
        ran.append(number)
        return 2 * number

    @app.task(store_result=True)
    async def total(numbers: list[int], more: int = 0) -> int:
        ran.append(numbers)
        return sum(numbers) + more

    @app.task
    async def fail(name: str = "failed") -> None:
        ran.append(name)
        raise ValueError(name)

    @app.task(retry=2)
    async def flaky(name: str) -> None:
        ran.append(name)
        if ran.count(name) < 3:
            raise ValueError(name)

    return Notes(note, double, total, fail, flaky, ran)
