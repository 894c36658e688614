"""Messages of Celery's protocol 2, as jobs."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest

from procrastinate.from_celery.messages import NotAJob, read_message

HEADERS: dict[str, Any] = {"task": "shop.add", "id": "an-id", "retries": 2, "eta": None, "expires": None}


def test_a_message_has_its_arguments_its_times_and_its_retries() -> None:
    read = read_message(
        {**HEADERS, "eta": "2040-01-02T03:04:05+01:00", "expires": "2040-01-02T03:04:05"},
        ([1], {"a": uuid.UUID(int=1)}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}),
    )
    assert read.task_name == "shop.add"
    assert read.eta == datetime.datetime(2040, 1, 2, 2, 4, 5, tzinfo=datetime.UTC)
    assert read.call.as_arguments() == {
        "args": [1],
        "kwargs": {"a": {"__type__": "uuid", "__value__": str(uuid.UUID(int=1))}},
        "id": "an-id",
        "retries": 2,
        "expires": "2040-01-02T03:04:05+00:00",
    }


@pytest.mark.parametrize("part", ["callbacks", "errbacks", "chain", "chord"])
def test_a_part_of_a_canvas_is_no_job(part: str) -> None:
    with pytest.raises(NotAJob, match=part):
        read_message(HEADERS, ([], {}, {part: [{"task": "shop.next"}]}))


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, {"task": "shop.add", "id": "an-id", "args": []}),  # of protocol 1
        (HEADERS, {"args": []}),
        (HEADERS, None),
        ({**HEADERS, "id": None}, ([], {}, {})),
        ({**HEADERS, "eta": "tomorrow"}, ([], {}, {})),
        ({**HEADERS, "expires": 7}, ([], {}, {})),
        (None, ([], {}, {})),
        ({**HEADERS, "retries": "two"}, ([], {}, {})),
        (HEADERS, (5, {}, {})),
        (HEADERS, ("abc", {}, {})),
        (HEADERS, ([], ["ab"], {})),
        (HEADERS, ([], None, {})),
        (HEADERS, ([], {}, "chord")),
    ],
)
def test_a_message_of_another_kind_is_no_job(headers: dict[str, Any], body: Any) -> None:
    with pytest.raises(NotAJob):
        read_message(headers, body)
