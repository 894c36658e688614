"""What observes the runs of a worker has no part in their outcomes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from procrastinate import run_observers
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.run_observers import ObservedRun
from tests.worker.running import Queue, Workers


@contextlib.contextmanager
def exits_at_once(run: ObservedRun) -> Iterator[None]:
    """End the process instead of a beginning."""
    raise SystemExit(3)
    yield


@contextlib.contextmanager
def exits_afterwards(run: ObservedRun) -> Iterator[None]:
    """End the process when the run has ended."""
    yield
    raise SystemExit(3)


@contextlib.contextmanager
def exits_at_the_outcome(run: ObservedRun) -> Iterator[None]:
    """End the process when the outcome is known."""

    def leave(status: Status, exception: BaseException | None) -> None:
        raise SystemExit(3)

    run.on_end.append(leave)
    yield


@pytest.mark.parametrize("observer", [exits_at_once, exits_afterwards, exits_at_the_outcome])
async def test_an_observer_that_exits_is_logged_and_the_job_succeeds(
    app: App,
    workers: Workers,
    queue: Queue,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    observer: Callable[[ObservedRun], Any],
) -> None:
    @app.task
    async def quick() -> None: ...

    monkeypatch.setattr(run_observers, "EVERYWHERE", [observer])
    await quick.defer_async()
    await workers.run()
    assert queue.statuses() == {"succeeded": 1}
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.message.startswith(f"The hook {observer.__qualname__}")
