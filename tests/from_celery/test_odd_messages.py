"""A message that no Celery has sent concerns itself alone, on a Redis of the test's own."""

from __future__ import annotations

import base64
import json
import pathlib
from typing import Any

import kombu
import psycopg
import pytest
import redis

from procrastinate import App
from procrastinate.from_celery.bridge import Bridge, BridgeOptions
from tests import brokers
from tests.database import libpq_url

QUEUE = "celery"
HEADERS = {"task": "shop.odd", "id": "odd", "retries": 0}


def envelope(headers: Any = HEADERS, **changes: Any) -> str:
    """Return a message as kombu writes it into the list of the queue."""
    properties = {
        "delivery_info": {"exchange": "", "routing_key": QUEUE},
        "delivery_tag": "odd",
        "body_encoding": "base64",
    }
    message = {
        "body": base64.b64encode(b"[[1], {}, {}]").decode(),
        "headers": headers,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": properties | changes.pop("properties", {}),
    }
    return json.dumps(message | changes)


LEFT = {
    "compressed in an unknown way": envelope({**HEADERS, "compression": "unknown"}),
    "with a time that PostgreSQL does not take": envelope({**HEADERS, "eta": "0001-01-01T00:00:00+23:59"}),
}
DROPPED = {
    "no JSON": "garbage",
    "a list": "[1, 2]",
    "without properties": '{"body": "x"}',
    "with a list of headers": envelope([1]),
    "encoded in an unknown way": envelope(properties={"body_encoding": "unknown"}),
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in (LEFT | DROPPED).items()])
def test_an_odd_message_does_not_stop_the_others(tmp_path: pathlib.Path, database_url: str, text: str) -> None:
    with brokers.redis(tmp_path) as broker:
        send = _sender(broker)
        send(1)
        server = redis.Redis(unix_socket_path=str(tmp_path / "redis.sock"))
        server.lpush(QUEUE, text)
        send(2)
        app = App(connector=database_url)
        bridge = Bridge(app, BridgeOptions(broker=broker, queues=[QUEUE], once=True))
        with app.open():
            bridge.run()
        assert bridge.counts == {"moved": 2} | ({"left": 1} if text in LEFT.values() else {})
        assert server.llen(f"{QUEUE}.left") == (text in LEFT.values())
    with psycopg.connect(libpq_url(database_url)) as connection:
        rows = connection.execute("SELECT task_name FROM procrastinate_jobs").fetchall()
    assert rows == [("shop.good",)] * 2


def _sender(broker: str) -> Any:
    """Return a function that sends a message of a good task."""
    connection = kombu.Connection(broker)
    producer = kombu.Producer(connection.default_channel, routing_key=QUEUE)
    kombu.Queue(QUEUE, channel=connection.default_channel).declare()

    def send(number: int) -> None:
        headers = {"task": "shop.good", "id": f"id-{number}"}
        producer.publish([[number], {}, {}], serializer="json", headers=headers)

    return send
