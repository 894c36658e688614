"""What the database would refuse is refused before, by name."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate._job_checks import to_new_job
from procrastinate.core import NewJob
from procrastinate.inspection import JobSearch
from tests.unit.recording import make_job


def store(**overrides: Any) -> NewJob:
    """What would be stored of a job."""
    return to_new_job(make_job(**overrides), json.dumps)


def test_a_job_becomes_a_row() -> None:
    noon = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)
    row = store(
        queue="q", task_name="t", lock="l", queueing_lock="ql", priority=3, scheduled_at=noon, task_kwargs={"a": 1}
    )
    assert row == NewJob(
        queue_name="q", task_name="t", lock="l", queueing_lock="ql", priority=3, scheduled_at=noon, args='{"a": 1}'
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"queue": "q" * 129}, "The queue has 129 characters, 128 are allowed"),
        ({"task_name": "t" * 129}, "The task name has 129 characters, 128 are allowed"),
        ({"queue": ""}, "The queue is empty"),
        ({"task_name": ""}, "The task name is empty"),
        ({"queue": "a\0b"}, "The queue contains a NUL character"),
        ({"task_name": "a\0b"}, "The task name contains a NUL character"),
        ({"lock": "a\0b"}, "The lock contains a NUL character"),
        ({"queueing_lock": "a\0b"}, "The queueing_lock contains a NUL character"),
        ({"lock": "\ud800"}, "The lock contains half a character"),
        ({"queue": "\ud800"}, "The queue contains half a character"),
        ({"queue": 3}, "The queue must be a str, not int: 3"),
        ({"lock": True}, "The lock must be a str, not bool: True"),
        ({"queueing_lock": 1.5}, "The queueing_lock must be a str, not float: 1.5"),
        ({"lock": b"bytes"}, "The lock must be a str, not bytes"),
        ({"priority": 2**31}, "The priority must be a whole number from -2147483648 to 2147483647, not 2147483648"),
        ({"priority": -(2**31) - 1}, "The priority must be a whole number"),
        ({"priority": 1.5}, "The priority must be a whole number"),
        ({"priority": "high"}, "The priority must be a whole number .* not 'high'"),
    ],
)
def test_a_wrong_value_is_refused_by_name(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(exceptions.InvalidJob, match=message) as caught:
        store(**overrides)
    assert isinstance(caught.value, ValueError)


def test_the_id_of_a_row_is_a_lock_as_in_3x() -> None:
    row = store(lock=3, queueing_lock=uuid.UUID(int=1))
    assert (row.lock, row.queueing_lock) == ("3", "00000000000000000000000000000001")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object(), "cannot be stored as JSON"),
        ({1, 2}, "cannot be stored as JSON"),
        (datetime.date(2030, 1, 1), "cannot be stored as JSON"),
        (decimal.Decimal(1), "cannot be stored as JSON"),
        (b"bytes", "cannot be stored as JSON"),
        ({("a", "b"): 1}, "cannot be stored as JSON"),
        ("a\0b", "contains a NUL character"),
        ({"deep": [{"er": "a\0b"}]}, "contains a NUL character"),
        ({"a\0b": 1}, "contains a NUL character"),
        (float("nan"), "contains NaN or an infinity"),
        ([1, {"deep": float("-inf")}], "contains NaN or an infinity"),
        ("\ud800", "contains half a character"),
        ([{"deep": "\udfff!"}], "contains half a character"),
        ({"\ud800": 1}, "contains half a character"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(value: Any, why: str) -> None:
    with pytest.raises(exceptions.InvalidJob, match=rf"(?i)argument 'wrong' of task send {why}"):
        store(task_name="send", task_kwargs={"right": 1, "wrong": value})


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(exceptions.InvalidJob, match="'loop'"):
        store(task_kwargs={"loop": loop})


def test_a_value_that_is_too_deep_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(exceptions.InvalidJob, match="'deep'"):
        store(task_kwargs={"deep": deep})


@pytest.mark.parametrize(
    "value",
    ["\\u0000", "NaN", "Infinity and beyond", "\\ud800", "\N{GRINNING FACE}", "é" * 200, "", None, -0.0, 10**30],
)
def test_what_only_looks_wrong_is_stored(value: Any) -> None:
    assert json.loads(store(task_kwargs={"value": value}).args) == {"value": value}


def test_names_may_have_128_characters_of_any_kind() -> None:
    row = store(queue="é" * 128, task_name="\N{GRINNING FACE}" * 128, lock="\n" * 500)
    assert (len(row.queue_name), len(row.task_name)) == (128, 128)


def test_the_largest_and_the_smallest_priority() -> None:
    assert [store(priority=number).priority for number in (2**31 - 1, -(2**31))] == [2**31 - 1, -(2**31)]


def test_json_may_be_written_by_another_library() -> None:
    def dumps(value: Any) -> bytes:
        return json.dumps(value, default=str).encode()

    row = to_new_job(make_job(task_kwargs={"day": datetime.date(2030, 1, 1)}), dumps)
    assert row.args == '{"day": "2030-01-01"}'


@pytest.mark.parametrize("written", ["a\0b", float("nan"), "\ud800"])
def test_what_that_library_makes_is_looked_at_too(written: Any) -> None:
    def dumps(value: Any) -> str:
        return json.dumps(value, default=lambda _: written)

    with pytest.raises(exceptions.InvalidJob, match="task send"):
        to_new_job(make_job(task_name="send", task_kwargs={"thing": object()}), dumps)


@pytest.mark.parametrize("what", ["lock", "queueing_lock"])
def test_a_lock_that_no_index_takes_is_refused(what: str) -> None:
    """PostgreSQL would refuse it, and say "index row size exceeds btree maximum"."""
    store(**{what: "x" * 2600})
    with pytest.raises(exceptions.InvalidJob, match=f"The {what} has 2602 bytes, 2600 are allowed"):
        store(**{what: "é" * 1301})


@pytest.mark.parametrize("name", ["ended_since", "deferred_since"])
@pytest.mark.parametrize("text", ["2030-01-01T12:00:00", "2030-01-01", "yesterday", "infinity", ""])
def test_a_search_for_a_time_without_a_zone_is_refused(name: str, text: str) -> None:
    """Each session of the database, and each worker that goes on with an operation, would read it in its own zone."""
    with pytest.raises(ValueError, match=f"{name}='{text}': write a time with a time zone"):
        JobSearch(**{name: text})  # type: ignore[arg-type]
    assert getattr(JobSearch(**{name: "2030-01-01T12:00Z"}), name)  # type: ignore[arg-type]
