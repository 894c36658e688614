"""The result of a job, of what is stored."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from procrastinate.app import App
from procrastinate.core import EventType, Status, StoredEvent, StoredJob, StoredResult
from procrastinate.jobs import Job
from procrastinate.results import Result, to_result
from procrastinate.testing import InMemoryConnector

NOON = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)


def result(status: Status, events: list[EventType], *, attempts: int = 0, value: str | None = None) -> Result:
    """Of a job with this history, an event a minute from noon on."""
    stored = StoredJob(
        id=1,
        status=status,
        queue_name="q",
        task_name="t",
        priority=0,
        lock=None,
        queueing_lock=None,
        args="{}",
        scheduled_at=None,
        attempts=attempts,
        abort_requested=False,
        worker_id=7 if status is not Status.TODO else None,
    )
    history = tuple(
        StoredEvent(type=type_, at=NOON + datetime.timedelta(minutes=minute)) for minute, type_ in enumerate(events)
    )
    whole = StoredResult(job=stored, finished_at=None, value=value, errors=(), events=history)
    return to_result(whole, Job(id=1, queue="q", lock=None, queueing_lock=None, task_name="t"), json.loads)


def test_a_job_that_was_fetched_ahead_and_released_has_not_started() -> None:
    history = [EventType.DEFERRED, EventType.STARTED, EventType.DEFERRED_FOR_RETRY]
    assert (result(Status.TODO, history).enqueued_at, result(Status.TODO, history).started_at) == (NOON, None)
    assert result(Status.TODO, history, attempts=1).started_at == NOON + datetime.timedelta(minutes=1)


def test_a_running_job_has_its_worker() -> None:
    running = result(Status.DOING, [EventType.DEFERRED, EventType.STARTED])
    assert (running.worker_ids, running.is_finished) == ((7,), False)


def test_a_value_of_a_job_that_has_not_succeeded_does_not_count() -> None:
    assert not result(Status.FAILED, [], attempts=1, value="1").has_value
    assert result(Status.SUCCEEDED, [], attempts=1, value="1").value == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"store_result": "yes"}, TypeError, "store_result must be True or False, not 'yes'"),
        ({"max_result_size": 0}, ValueError, "max_result_size must be at least 1 bytes, not 0"),
        ({"max_result_size": "1 MB"}, TypeError, "max_result_size must be a whole number of bytes"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        App(connector=InMemoryConnector()).task(**options)(print)
