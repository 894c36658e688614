"""Writers notify while a worker waits for jobs of the queue, and not while all have enough to do."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from procrastinate import core
from procrastinate.core.channels import ANY_QUEUE_CHANNEL, parse_notification
from tests.database import libpq_url, new_job

Heard = Callable[[], list[str]]


@pytest.fixture
def heard(database_url: str) -> Iterator[Heard]:
    """Return the notifications since the last call. They say that jobs wait, and not how many.

    The test's own message comes after everything that was sent before it.
    """
    with contextlib.closing(psycopg.connect(libpq_url(database_url), autocommit=True)) as listener:
        listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(ANY_QUEUE_CHANNEL)))

        def hear() -> list[str]:
            listener.execute("SELECT pg_notify(%s, 'last')", [ANY_QUEUE_CHANNEL])
            messages = []
            for notification in listener.notifies(timeout=60):
                if notification.payload == "last":
                    break
                messages.append(notification.payload)
            return messages

        yield hear


def registered(connection: sa.Connection, *queues: str) -> int:
    """A worker that waits, for these queues or for all."""
    worker_id = core.register_worker(connection)
    assert core.start_waiting(connection, worker_id=worker_id, queues=queues or None)
    return worker_id


def test_without_any_worker_everybody_notifies(connection: sa.Connection, heard: Heard) -> None:
    """There may be listeners of another kind."""
    core.defer_job(connection, new_job())
    assert len(heard()) == 1


def test_a_worker_of_which_nothing_is_known_is_notified(connection: sa.Connection, heard: Heard) -> None:
    """As one of the release before, or one that has just registered."""
    core.register_worker(connection)
    core.defer_job(connection, new_job())
    assert len(heard()) == 1


def test_a_worker_that_has_enough_to_do_is_not_notified(connection: sa.Connection, heard: Heard) -> None:
    worker_id = registered(connection)
    core.stop_waiting(connection, worker_id=worker_id)
    core.defer_job(connection, new_job())
    core.defer_jobs(connection, [new_job(), new_job(lock="l")])
    connection.exec_driver_sql("UPDATE procrastinate_jobs SET priority = 1, queue_name = 'r' WHERE id = 1")
    assert heard() == []
    assert core.start_waiting(connection, worker_id=worker_id, queues=None)
    core.defer_job(connection, new_job())
    assert len(heard()) == 1


def test_one_that_waits_is_enough(connection: sa.Connection, heard: Heard) -> None:
    registered(connection)
    core.stop_waiting(connection, worker_id=registered(connection))
    core.defer_job(connection, new_job())
    assert len(heard()) == 1


def test_a_worker_is_notified_of_its_own_queues(connection: sa.Connection, heard: Heard) -> None:
    registered(connection, "mail", "reports")
    core.defer_job(connection, new_job(queue_name="other"))
    assert heard() == []
    core.defer_job(connection, new_job(queue_name="reports"))
    assert len(heard()) == 1


def test_a_request_to_abort_is_notified_always(connection: sa.Connection, heard: Heard) -> None:
    worker_id = registered(connection)
    core.stop_waiting(connection, worker_id=worker_id)
    job_id = core.defer_job(connection, new_job())
    assert job_id is not None
    core.fetch_jobs(connection, worker_id=worker_id, limit=1)
    assert core.cancel_job(connection, job_id, abort=True)
    (message,) = heard()
    assert "abort_job_requested" in message


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_transaction_that_cannot_see_who_waits_notifies(
    connection: sa.Connection, engine: sa.Engine, heard: Heard, level: str
) -> None:
    worker_id = registered(connection)
    core.stop_waiting(connection, worker_id=worker_id)
    with engine.connect().execution_options(isolation_level=level) as writer, writer.begin():
        assert writer.exec_driver_sql("SELECT count(*) FROM procrastinate_jobs").scalar_one() == 0
        assert core.start_waiting(connection, worker_id=worker_id, queues=None)
        core.defer_job(writer, new_job())
    assert len(heard()) == 1


def test_a_role_that_may_not_see_who_waits_notifies(connection: sa.Connection, engine: sa.Engine, heard: Heard) -> None:
    core.stop_waiting(connection, worker_id=registered(connection))
    role = f"producer_{engine.url.database}"
    connection.exec_driver_sql(f'CREATE ROLE "{role}"')
    try:
        connection.exec_driver_sql(f'GRANT SELECT, INSERT ON procrastinate_jobs, procrastinate_events TO "{role}"')
        connection.exec_driver_sql(f'SET ROLE "{role}"')
        core.defer_job(connection, new_job())
        connection.exec_driver_sql("RESET ROLE")
    finally:
        connection.exec_driver_sql("RESET ROLE")
        connection.exec_driver_sql(f'DROP OWNED BY "{role}"')
        connection.exec_driver_sql(f'DROP ROLE "{role}"')
    assert len(heard()) == 1


def test_workers_that_looked_before_are_known_until_they_end(connection: sa.Connection, engine: sa.Engine) -> None:
    worker_id = registered(connection)
    core.stop_waiting(connection, worker_id=worker_id)
    with engine.connect() as writer:
        with writer.begin():
            core.defer_job(writer, new_job())
            assert core.start_waiting(connection, worker_id=worker_id, queues=None)
            waiting = core.read_unaware(connection)
            assert not waiting.is_settled
            assert not core.have_ended_before(connection, transaction=waiting.unaware_before)
        with writer.begin():  # a later one does not matter
            core.defer_job(writer, new_job())
            _wait_for_others(connection, waiting.unaware_before)


def test_one_that_began_after_the_call_and_looked_before_its_commit_is_known(
    connection: sa.Connection, engine: sa.Engine, heard: Heard
) -> None:
    """The last transaction that has ended is the call's own: the end of a snapshot would not contain this one."""
    worker_id = registered(connection)
    core.stop_waiting(connection, worker_id=worker_id)
    with engine.connect() as caller, engine.connect() as writer:
        with caller.begin():
            assert core.start_waiting(caller, worker_id=worker_id, queues=None)
            writing = writer.begin()
            core.defer_job(writer, new_job())
        assert not core.read_unaware(connection).is_settled
        waiting = core.read_unaware(connection)
        assert not core.have_ended_before(connection, transaction=waiting.unaware_before)
        writing.commit()
    _wait_for_others(connection, waiting.unaware_before)
    assert heard() == []


def _wait_for_others(connection: sa.Connection, transaction: int) -> None:
    """Transactions of other tests count, too, and end."""
    for _ in range(600):
        if core.have_ended_before(connection, transaction=transaction):
            return
        connection.exec_driver_sql("SELECT pg_sleep(0.1)")
    raise AssertionError("the transactions that were under way have not ended")


def test_a_worker_that_is_not_registered_cannot_wait(connection: sa.Connection) -> None:
    assert not core.start_waiting(connection, worker_id=1, queues=None)


def named(heard: Heard) -> list[list[int] | None]:
    """The workers that each message names."""
    return [json.loads(payload).get("workers") for payload in heard()]


def test_a_notification_names_one_of_the_workers_that_wait(connection: sa.Connection, heard: Heard) -> None:
    ids = {registered(connection) for _ in range(3)}
    for _ in range(40):
        core.defer_job(connection, new_job())
    chosen = named(heard)
    assert len(chosen) == 40
    assert {worker_id for workers in chosen if workers is not None for worker_id in workers} == ids
    assert all(workers is not None and len(workers) == 1 for workers in chosen)


def test_a_notification_of_two_jobs_names_two_workers(connection: sa.Connection, heard: Heard) -> None:
    ids = {registered(connection) for _ in range(3)}
    core.defer_jobs(connection, [new_job(), new_job()])
    (payload,) = map(json.loads, heard())
    assert len(set(payload["workers"])) == 2
    assert set(payload["workers"]) < ids
    assert payload["waiting"] == 3


def test_the_longest_notification_is_read(connection: sa.Connection, heard: Heard) -> None:
    """It names sixteen workers by the longest ids."""
    for number in range(17):
        connection.exec_driver_sql(f"INSERT INTO procrastinate_workers (id) VALUES ({number} - {2**63 - 1})")  # noqa: S608
    connection.exec_driver_sql(f"ALTER TABLE procrastinate_jobs ALTER COLUMN id RESTART WITH {2**63 - 16}")
    connection.exec_driver_sql("UPDATE procrastinate_workers SET called_for = '{}'")
    core.defer_jobs(connection, [new_job()] * 16)
    (payload,) = heard()
    notification = parse_notification(payload)
    assert notification is not None
    assert notification["type"] == "job_inserted"
    assert len(notification["workers"]) == 16
    assert notification["waiting"] == 17


@pytest.mark.parametrize(
    "row",
    [
        "heartbeat_interval = 1.7e308",
        "heartbeat_interval = 'NaN'",
        "heartbeat_interval = '-infinity'",
        "last_heartbeat = 'infinity'",
        "last_heartbeat = '-infinity'",
        "last_heartbeat = '294276-12-31'",
    ],
)
def test_odd_rows_of_workers_keep_no_job_from_being_deferred(connection: sa.Connection, heard: Heard, row: str) -> None:
    odd = registered(connection)
    connection.exec_driver_sql(f"UPDATE procrastinate_workers SET {row} WHERE id = {odd}")  # noqa: S608
    ids = {odd, *(registered(connection) for _ in range(2))}
    core.defer_jobs(connection, [new_job(), new_job()])
    (workers,) = named(heard)
    assert workers is not None
    assert set(workers) < ids


@pytest.mark.parametrize("number", [3, 4, 100])
def test_a_notification_for_as_many_jobs_as_workers_names_none(
    connection: sa.Connection, heard: Heard, number: int
) -> None:
    for _ in range(3):
        registered(connection)
    core.defer_jobs(connection, [new_job() for _ in range(number)])
    assert named(heard) == [None]


def test_a_worker_of_another_queue_or_with_enough_to_do_is_not_named(connection: sa.Connection, heard: Heard) -> None:
    ids = {registered(connection), registered(connection, "default", "other")}
    registered(connection, "other")
    core.stop_waiting(connection, worker_id=registered(connection))
    for _ in range(20):
        core.defer_job(connection, new_job())
    chosen = named(heard)
    assert {worker_id for workers in chosen if workers is not None for worker_id in workers} == ids


def test_a_worker_whose_heartbeat_is_late_is_named_last(connection: sa.Connection, heard: Heard) -> None:
    silent, *lively = (registered(connection) for _ in range(3))
    connection.execute(
        sa.text("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute' WHERE id = :id"),
        {"id": silent},
    )
    for _ in range(20):
        core.defer_job(connection, new_job())
    assert all(workers is not None and workers[0] in lively for workers in named(heard))


def test_all_workers_are_called_for_a_job_if_the_named_one_has_no_room(connection: sa.Connection, heard: Heard) -> None:
    for _ in range(3):
        registered(connection)
    job_id = core.defer_job(connection, new_job())
    heard()
    core.call_all_workers(connection, job_id=job_id)
    assert named(heard) == [None]
