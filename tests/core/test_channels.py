"""The channel names, which Python and SQL both compute, and the payloads."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from procrastinate.core import channels


@pytest.mark.parametrize("length", [0, 1, 39, 40, 41, 128])
@pytest.mark.parametrize("letter", ["a", "é", "日", "🐘", "%", "'"])
def test_python_and_sql_agree_on_the_channel_of_a_queue(connection: sa.Connection, letter: str, length: int) -> None:
    queue = letter * length
    in_sql = connection.execute(sa.select(sa.func.procrastinate_queue_channel(queue))).scalar_one()
    assert in_sql == channels.queue_channel(queue)
    assert len(in_sql.encode()) <= 63


def test_a_short_queue_name_can_be_read_in_its_channel() -> None:
    assert channels.queue_channel("mail") == "procrastinate_queue_v1#mail"


def test_long_queue_names_that_begin_alike_have_different_channels() -> None:
    assert channels.queue_channel("x" * 50 + "a") != channels.queue_channel("x" * 50 + "b")


def test_a_worker_listens_on_a_channel_for_each_of_its_queues() -> None:
    assert channels.channels_for(None) == ["procrastinate_any_queue_v1"]
    assert channels.channels_for(["a", "b"]) == ["procrastinate_queue_v1#a", "procrastinate_queue_v1#b"]
    assert channels.channels_for([]) == []


def test_a_notification_is_parsed() -> None:
    payload = '{"type": "job_inserted", "job_id": 3, "upcoming": false}'
    assert channels.parse_notification(payload) == {"type": "job_inserted", "job_id": 3, "upcoming": False}


@pytest.mark.parametrize("payload", ["", "no json", "[]", "1", "{}", '{"type": "foreign"}'])
def test_a_payload_that_is_not_ours_is_passed_over(payload: str) -> None:
    assert channels.parse_notification(payload) is None


@pytest.mark.parametrize(
    "payload",
    [
        '{"type": "abort_job_requested"}',
        '{"type": "abort_job_requested", "job_id": null}',
        '{"type": "abort_job_requested", "job_id": true}',
        '{"type": "abort_job_requested", "job_id": [1]}',
        '{"type": "abort_job_requested", "job_id": 1e3}',
        '{"type": "abort_job_requested", "job_id": -1}',
        '{"type": "abort_job_requested", "job_id": 9223372036854775808}',
        '{"type": "job_inserted", "job_id": ' + "9" * 5000 + "}",
        '{"type": ["job_inserted"], "job_id": 1}',
        '{"type": {}, "job_id": 1}',
        "[" * 7999,
        '{"a":' * 1500,
    ],
)
def test_a_malformed_payload_is_neither_a_notification_nor_an_error(payload: str) -> None:
    assert channels.parse_notification(payload) is None
    assert channels.parse_finished(payload) == []


def test_only_the_ids_of_a_message_about_finished_jobs_are_read_and_each_once() -> None:
    payload = '{"job_ids": [1, 1, true, "2", null, -3, 4.0, 9223372036854775808, {}, 5]}'
    assert channels.parse_finished(payload) == [1, 5]


def test_a_message_about_finished_jobs_may_be_malformed() -> None:
    for payload in ('{"job_ids": 1}', '{"job_ids": {"1": 1}}', "[" * 7999, "null"):
        assert channels.parse_finished(payload) == []
