"""Writers notify while a worker waits for jobs of the queue, and not while all have enough to do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from procrastinate import core
from procrastinate.core.channels import ANY_QUEUE_CHANNEL
from tests.database import libpq_url, new_job

Heard = Callable[[], list[str]]


@pytest.fixture
def heard(database_url: str) -> Iterator[Heard]:
    """What has been notified since the last call: how many jobs are waiting is not told, only that there are some.

    A message of one's own comes after all that was sent before it.
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


def test_those_who_looked_before_are_known_until_they_have_ended(connection: sa.Connection, engine: sa.Engine) -> None:
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
