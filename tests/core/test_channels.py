"""The channels, computed in two places, and what is sent on them."""

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


@pytest.mark.parametrize("payload", ["", "no json", "[]", "1", "{}", '{"type": "somebody else\'s"}'])
def test_a_payload_that_is_not_ours_is_passed_over(payload: str) -> None:
    assert channels.parse_notification(payload) is None
