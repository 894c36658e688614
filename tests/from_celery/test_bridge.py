"""What a bridge does with messages of every kind, on a broker in memory."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import kombu
import pytest
import sqlalchemy as sa
from celery import Celery  # type: ignore[import-untyped, unused-ignore]

from procrastinate import App
from procrastinate.from_celery.bridge import Bridge, BridgeOptions
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.testing import InMemoryConnector

BROKER = "memory://"


@pytest.fixture
def queue() -> str:
    """A queue of this test: the broker is shared in the process."""
    return f"queue-{uuid.uuid4()}"


@pytest.fixture
def producer(queue: str) -> Iterator[Celery]:
    """A Celery app that sends to the queue."""
    app = Celery("shop", broker=BROKER, set_as_current=False)
    app.conf.task_default_queue = queue
    yield app
    app.close()


@pytest.fixture
def app() -> App:
    """Where the jobs are stored."""
    return App(connector=InMemoryConnector())


def bridge(app: App, queue: str) -> Bridge:
    """Run a bridge until the queue is empty."""
    bridge = Bridge(app, BridgeOptions(broker=BROKER, queues=[queue], once=True, quiet=0.2))
    with app.open():
        bridge.run()
    return bridge


def jobs_of(app: App) -> list[dict[str, Any]]:
    """The rows of the jobs."""
    assert isinstance(app.connector, InMemoryConnector)
    return list(app.connector.jobs.values())


def left_in(queue: str) -> Any:
    """The message in the other queue, if there is one."""
    with kombu.Connection(BROKER) as connection:
        return connection.default_channel.basic_get(f"{queue}.left", no_ack=True)


def test_a_compressed_message_becomes_a_job(app: App, producer: Celery, queue: str) -> None:
    producer.send_task("shop.note", ["a" * 1000], compression="zlib")
    assert bridge(app, queue).counts == {"moved": 1}
    (job,) = jobs_of(app)
    assert job["args"]["args"] == ["a" * 1000]
    assert job["queue_name"] == queue


def test_messages_that_are_there_are_stored_together(
    app: App, producer: Celery, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    store = JobManager.batch_defer_jobs

    def batch_defer_jobs(self: JobManager, jobs: list[Job], **options: Any) -> list[Job]:
        sizes.append(len(jobs))
        return store(self, jobs, **options)

    monkeypatch.setattr(JobManager, "batch_defer_jobs", batch_defer_jobs)
    for number in range(250):
        producer.send_task("shop.note", [number])
    assert bridge(app, queue).counts == {"moved": 250}
    assert [job["args"]["args"] for job in jobs_of(app)] == [[number] for number in range(250)]
    assert sizes == [100, 100, 50]


def test_large_messages_are_stored_before_there_are_many(
    app: App, producer: Celery, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    store = JobManager.batch_defer_jobs

    def batch_defer_jobs(self: JobManager, jobs: list[Job], **options: Any) -> list[Job]:
        sizes.append(len(jobs))
        return store(self, jobs, **options)

    monkeypatch.setattr(JobManager, "batch_defer_jobs", batch_defer_jobs)
    for _ in range(6):
        producer.send_task("shop.note", ["a" * 1_500_000])
    assert bridge(app, queue).counts == {"moved": 6}
    assert sizes == [3, 3]


def test_one_message_that_cannot_be_stored_is_left_and_the_others_become_jobs(
    app: App, producer: Celery, queue: str
) -> None:
    for text in ("a", "\x00", "b"):
        producer.send_task("shop.note", [text])
    assert bridge(app, queue).counts == {"moved": 2, "left": 1}
    assert [job["args"]["args"] for job in jobs_of(app)] == [["a"], ["b"]]
    assert left_in(queue).decode()[0] == ["\x00"]


def test_a_message_of_odd_parts_is_left_and_the_others_become_jobs(app: App, producer: Celery, queue: str) -> None:
    deep = f"[[{'[' * 100_000}{']' * 100_000}], {{}}, null]"  # deeper than any Python reads
    with producer.producer_or_acquire() as one:
        for body in ('[[], {}, "chord"]', deep, '[["a"], {}, null]'):
            headers = {"task": "shop.note", "id": str(uuid.uuid4())}
            one.publish(
                body, routing_key=queue, headers=headers, content_type="application/json", content_encoding="utf-8"
            )
    assert bridge(app, queue).counts == {"moved": 1, "left": 2}
    assert [job["args"]["args"] for job in jobs_of(app)] == [["a"]]


class SlowBroker(Bridge):
    """A bridge whose broker takes longer for each step than the bridge waits for a message."""

    def _consumer(self, *arguments: Any) -> Any:
        time.sleep(0.3)
        return super()._consumer(*arguments)

    def _leave(self, *arguments: Any) -> None:
        time.sleep(0.3)
        super()._leave(*arguments)


def test_a_slow_broker_is_not_taken_for_a_quiet_one(app: App, producer: Celery, queue: str) -> None:
    for text in ("\x00", "b"):
        producer.send_task("shop.note", [text])
    with producer.producer_or_acquire() as one:
        one.publish(["odd"], routing_key=queue, headers={"task": "shop.note", "id": "1"}, serializer="json")
    producer.send_task("shop.note", ["c"])
    bridge = SlowBroker(app, BridgeOptions(broker=BROKER, queues=[queue], once=True, quiet=0.2))
    with app.open():
        bridge.run()
    assert bridge.counts == {"moved": 2, "left": 2}


def test_the_same_message_twice_is_one_job(app: App, producer: Celery, queue: str) -> None:
    for _ in range(2):
        producer.send_task("shop.note", task_id="an-id")
    assert bridge(app, queue).counts == {"moved": 2}
    (job,) = jobs_of(app)
    assert job["queueing_lock"] == "celery:an-id"


def test_a_pickle_is_left_as_it_is_and_not_read(app: App, producer: Celery, queue: str) -> None:
    producer.send_task("shop.note", [1], serializer="pickle", compression="zlib")
    assert bridge(app, queue).counts == {"left": 1}
    assert jobs_of(app) == []
    message = left_in(queue)
    assert (message.content_type, message.headers["task"]) == ("application/x-python-serialize", "shop.note")
    assert message.headers["compression"]
    message.accept = {"application/x-python-serialize"}
    assert message.decode()[0] == [1] or message.decode()[0] == (1,)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("shop.note", ["\x00"]), ("n" * 129, []), ("shop.own", [1])],
    ids=["NUL", "name", "own task"],
)
def test_what_cannot_be_stored_is_left_for_celery(
    app: App, producer: Celery, queue: str, name: str, arguments: list[Any]
) -> None:
    @app.task(name="shop.own")
    def own(order: int) -> None: ...

    producer.send_task(name, arguments)
    assert bridge(app, queue).counts == {"left": 1}
    message = left_in(queue)
    assert message.headers["task"] == name
    assert message.decode()[0] == arguments


def test_a_bridge_that_is_stopped_takes_no_further_message(app: App, producer: Celery, queue: str) -> None:
    producer.send_task("shop.note")
    stopped = Bridge(app, BridgeOptions(broker=BROKER, queues=[queue]))
    stopped.stop()
    stopped.run()
    assert stopped.counts == {}
    assert bridge(app, queue).counts == {"moved": 1}


def test_a_broker_of_an_unknown_kind_is_refused_without_its_password(app: App) -> None:
    with pytest.raises(ValueError, match="names no transport that is installed") as error:
        Bridge(app, BridgeOptions(broker="nothing://user:secret@host", queues=["celery"])).run()
    assert "secret" not in str(error.value)


def test_a_broker_with_an_unquoted_slash_in_its_password_is_refused_without_it(app: App) -> None:
    with pytest.raises(ValueError, match="special characters percent-encoded") as error:
        Bridge(app, BridgeOptions(broker="redis://:hid/den@host/0", queues=["celery"])).run()
    assert "hid" not in str(error.value)


def test_a_bridge_that_waits_for_a_lock_says_so(
    producer: Celery, queue: str, database_url: str, engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    producer.send_task("shop.note", ["a"])
    app = App(connector=database_url)
    with engine.connect() as locker, locker.begin():
        locker.exec_driver_sql("LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE")
        storing = threading.Thread(target=bridge, args=(app, queue))
        storing.start()
        end = time.monotonic() + 60
        while not any("Waiting for the database" in record.getMessage() for record in caplog.records):
            assert time.monotonic() < end
            time.sleep(0.05)
    storing.join(60)
    with app.open():
        assert len(app.job_manager.list_jobs(task="shop.note")) == 1
