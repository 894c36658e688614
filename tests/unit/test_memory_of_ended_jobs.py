"""What a job had in memory is free once it has ended, without a run of the garbage collector."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator

import pytest

from procrastinate.app import App
from procrastinate.testing import InMemoryConnector


class Large:
    """An object that a task uses."""


@pytest.fixture
def uncollected() -> Iterator[None]:
    """A process without garbage collector, and without log records that keep exceptions."""
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("is_async", [False, True], ids=["in a thread", "in the event loop"])
async def test_a_task_that_raises_leaves_nothing_of_its_frames_in_memory(is_async: bool) -> None:
    app = App(connector=InMemoryConnector())
    used: list[weakref.ref[Large]] = []

    def fail() -> None:
        large = Large()
        used.append(weakref.ref(large))
        raise ValueError("The task fails")

    async def fail_async() -> None:
        fail()

    task = app.task(name="fails")(fail_async if is_async else fail)
    async with app.open_async():
        await task.defer_async()
        await app.run_worker_async(wait=False, install_signal_handlers=False)
    assert [one() for one in used] == [None]
