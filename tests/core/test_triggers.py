"""History and notifications, which triggers write for every client, including psql."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, JobRetry, Status, channels
from tests.conformance.steps import FUTURE, PAST, query
from tests.database import libpq_url, new_job


def sql(connection: sa.Connection, statement: str) -> None:
    """Run a statement, like a user in psql."""
    connection.exec_driver_sql(statement)


def history(connection: sa.Connection, job_id: int = 1) -> list[str]:
    """Return the events of a job, in order."""
    statement = "SELECT type::text FROM procrastinate_events WHERE job_id = :id ORDER BY id"
    return [type_ for (type_,) in query(connection, statement, id=job_id)]


def started(connection: sa.Connection, **job: Any) -> int:
    """Create a running job, and return the id of its worker."""
    core.defer_job(connection, new_job(**job))
    core.promote_jobs(connection)
    worker_id = core.register_worker(connection)
    assert len(core.fetch_jobs(connection, worker_id=worker_id, limit=1)) == 1
    return worker_id


def finish(connection: sa.Connection, worker_id: int, status: Status) -> None:
    """End job 1."""
    core.finish_jobs(connection, [FinishedJob(id=1, attempts=0, status=status)], worker_id=worker_id)


def test_a_scheduled_job_has_its_time_in_its_history(connection: sa.Connection) -> None:
    core.defer_job(connection, new_job(scheduled_at=FUTURE))
    assert history(connection) == ["deferred", "scheduled"]
    assert query(connection, "SELECT at FROM procrastinate_events WHERE type = 'scheduled'") == [(FUTURE,)]


def test_plain_sql_writes_the_same_history(connection: sa.Connection) -> None:
    sql(connection, "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't'), ('q', 't')")
    for status in ("doing", "failed", "todo", "cancelled"):
        sql(connection, f"UPDATE procrastinate_jobs SET status = '{status}'")  # noqa: S608
    assert history(connection, 1) == history(connection, 2) == ["deferred", "started", "failed", "retried", "cancelled"]


def test_a_job_inserted_as_finished_has_no_history(connection: sa.Connection) -> None:
    sql(connection, "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('q', 't', 'succeeded')")
    assert history(connection) == []


def test_a_new_time_is_in_the_history(connection: sa.Connection) -> None:
    core.defer_job(connection, new_job(scheduled_at=PAST))
    sql(connection, "UPDATE procrastinate_jobs SET scheduled_at = '2100-01-01Z'")
    assert history(connection) == ["deferred", "scheduled", "scheduled"]


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", "aborted"])
def test_plain_sql_need_not_think_of_finished_at(connection: sa.Connection, status: str) -> None:
    core.defer_jobs(connection, [new_job(), new_job()])
    sql(connection, f"UPDATE procrastinate_jobs SET status = '{status}' WHERE id = 1")  # noqa: S608
    finished = "SELECT id, finished_at IS NOT NULL FROM procrastinate_jobs ORDER BY id"
    assert query(connection, finished) == [(1, True), (2, False)]


def test_a_given_finished_at_is_kept(connection: sa.Connection) -> None:
    core.defer_job(connection, new_job())
    sql(connection, "UPDATE procrastinate_jobs SET status = 'failed', finished_at = '2100-01-01Z'")
    assert query(connection, "SELECT finished_at FROM procrastinate_jobs") == [(FUTURE,)]


def test_a_deleted_job_has_no_history(connection: sa.Connection) -> None:
    core.defer_jobs(connection, [new_job(), new_job()])
    sql(connection, "DELETE FROM procrastinate_jobs WHERE id = 1")
    assert (history(connection, 1), history(connection, 2)) == ([], ["deferred"])


class Listener:
    """Listens on its own connection."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def heard(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the notifications since the last call, as channel and payload, in order.

        PostgreSQL delivers in the order of commits, so all earlier notifications arrive before our own marker.
        """
        self._connection.execute("NOTIFY procrastinate_any_queue_v1, 'end'")
        heard = []
        for notification in self._connection.notifies(timeout=10):
            if notification.payload == "end":
                return sorted(heard, key=str)
            heard.append((notification.channel, json.loads(notification.payload)))
        raise AssertionError("not even our own message arrived")


@pytest.fixture
def listener(database_url: str) -> Iterator[Listener]:
    """Yield a listener for two queues and for any queue."""
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        for channel in (*channels.channels_for(None), *channels.channels_for(["default", "other"])):
            connection.execute(f'LISTEN "{channel}"')
        yield Listener(connection)


def expect(*notifications: tuple[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Return each notification on its queue's channel and on the any-queue channel, in the order of
    :class:`Listener`.
    """
    both = [
        (channel, payload)
        for queue, payload in notifications
        for channel in ("procrastinate_any_queue_v1", channels.queue_channel(queue))
    ]
    return sorted(both, key=str)


def inserted(job_id: int, *, upcoming: bool = False) -> dict[str, Any]:
    """Return the payload that announces waiting jobs."""
    return {"type": "job_inserted", "job_id": job_id, "upcoming": upcoming}


def test_a_new_job_is_notified(connection: sa.Connection, listener: Listener) -> None:
    core.defer_job(connection, new_job())
    assert listener.heard() == expect(("default", inserted(1)))


def test_a_statement_notifies_each_queue_once(connection: sa.Connection, listener: Listener) -> None:
    core.defer_jobs(connection, [new_job(queue_name=name) for name in ("default", "other", "default", "default")])
    assert listener.heard() == expect(("default", inserted(4)), ("other", inserted(2)))


def test_a_statement_treats_each_of_its_jobs_by_its_own_state(connection: sa.Connection, listener: Listener) -> None:
    columns = "queue_name, task_name, status, scheduled_at, readiness"
    jobs = [
        "('default', 't', 'todo', NULL, 0)",
        f"('default', 't', 'todo', '{FUTURE.isoformat()}', 0)",
        "('default', 't', 'succeeded', NULL, 0)",
        "('other', 't', 'todo', NULL, 7)",
    ]
    sql(connection, f"INSERT INTO procrastinate_jobs ({columns}) VALUES {', '.join(jobs)}")  # noqa: S608
    assert listener.heard() == expect(("default", inserted(2, upcoming=True)), ("other", inserted(4)))
    assert [history(connection, number) for number in range(1, 5)] == [
        ["deferred"],
        ["deferred", "scheduled"],
        [],
        ["deferred"],
    ]
    rows = query(connection, "SELECT finished_at IS NULL, readiness FROM procrastinate_jobs ORDER BY id")
    assert rows == [(True, 0), (True, 0), (False, 0), (True, 0)]


def test_a_statement_with_jobs_that_wait_in_one_queue_only_says_how_many(
    connection: sa.Connection, listener: Listener
) -> None:
    for _ in range(3):
        worker_id = core.register_worker(connection)
        connection.execute(
            sa.text("UPDATE procrastinate_workers SET called_for = '{}' WHERE id = :id"), {"id": worker_id}
        )
    core.defer_jobs(connection, [new_job(), new_job()])
    ((_, any_queue), (_, own_queue)) = listener.heard()
    assert any_queue == own_queue
    assert (any_queue["job_id"], len(any_queue["workers"]), any_queue["waiting"]) == (2, 2, 3)


@pytest.mark.parametrize("others", ["plain jobs", "a job with a lock"])
def test_an_update_of_many_jobs_treats_each_by_its_own_state(
    connection: sa.Connection, listener: Listener, others: str
) -> None:
    core.defer_jobs(connection, [new_job(), new_job(lock=None if others == "plain jobs" else "l"), new_job(lock="l")])
    core.promote_jobs(connection)
    listener.heard()
    sql(connection, "UPDATE procrastinate_jobs SET status = 'doing' WHERE id < 3")
    sql(connection, "UPDATE procrastinate_jobs SET status = 'succeeded' WHERE id < 3")
    assert history(connection, 1) == history(connection, 2) == ["deferred", "started", "succeeded"]
    assert query(connection, "SELECT id FROM procrastinate_jobs WHERE finished_at IS NOT NULL ORDER BY id") == [
        (1,),
        (2,),
    ]
    assert query(connection, "SELECT readiness FROM procrastinate_jobs WHERE id = 3") == [(1,)]


def test_a_job_that_loses_its_lock_as_it_ends_hands_it_on(connection: sa.Connection) -> None:
    core.defer_jobs(connection, [new_job(lock="l"), new_job(lock="l")])
    core.promote_jobs(connection)
    sql(connection, "UPDATE procrastinate_jobs SET status = 'doing' WHERE id = 1")
    sql(connection, "UPDATE procrastinate_jobs SET status = 'failed', lock = NULL, finished_at = now() WHERE id = 1")
    assert query(connection, "SELECT readiness FROM procrastinate_jobs WHERE id = 2") == [(1,)]


def test_plain_sql_is_notified(connection: sa.Connection, listener: Listener) -> None:
    sql(connection, "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('other', 't')")
    assert listener.heard() == expect(("other", inserted(1)))


@pytest.mark.parametrize("job", [{"lock": "l"}, {"scheduled_at": FUTURE}])
def test_a_job_that_must_be_promoted_is_notified_as_such(
    connection: sa.Connection, listener: Listener, job: dict[str, Any]
) -> None:
    core.defer_job(connection, new_job(**job))
    assert listener.heard() == expect(("default", inserted(1, upcoming=True)))


def test_a_rolled_back_job_is_not_notified(engine: sa.Engine, listener: Listener) -> None:
    with engine.connect() as connection:
        core.defer_job(connection, new_job())
        connection.rollback()
    assert listener.heard() == []


def test_a_job_refused_for_its_queueing_lock_is_not_notified(connection: sa.Connection, listener: Listener) -> None:
    core.defer_job(connection, new_job(queueing_lock="q"))
    listener.heard()
    core.defer_job(connection, new_job(queueing_lock="q"))
    assert listener.heard() == []


def test_a_promoted_job_is_notified_and_a_parked_one_is_not(connection: sa.Connection, listener: Listener) -> None:
    core.defer_jobs(connection, [new_job(lock="l"), new_job(lock="l", queue_name="other")])
    listener.heard()
    core.promote_jobs(connection)
    assert listener.heard() == expect(("default", inserted(1)))


def test_fetching_and_finishing_are_not_notified(connection: sa.Connection, listener: Listener) -> None:
    worker_id = started(connection)
    listener.heard()
    finish(connection, worker_id, Status.SUCCEEDED)
    assert listener.heard() == []


def test_the_next_job_of_a_freed_lock_is_notified(connection: sa.Connection, listener: Listener) -> None:
    worker_id = started(connection, lock="l")
    core.defer_job(connection, new_job(lock="l", queue_name="other"))
    core.promote_jobs(connection)
    listener.heard()
    finish(connection, worker_id, Status.SUCCEEDED)
    assert listener.heard() == expect(("other", inserted(2)))


def test_a_retried_job_is_notified(connection: sa.Connection, listener: Listener) -> None:
    worker_id = started(connection)
    listener.heard()
    core.retry_jobs(connection, [JobRetry(id=1, attempts=0)], worker_id=worker_id)
    assert listener.heard() == expect(("default", inserted(1, upcoming=True)))


def test_a_new_time_is_notified(connection: sa.Connection, listener: Listener) -> None:
    core.defer_job(connection, new_job(scheduled_at=FUTURE))
    listener.heard()
    sql(connection, "UPDATE procrastinate_jobs SET scheduled_at = now()")
    assert listener.heard() == expect(("default", inserted(1, upcoming=True)))


def test_a_request_to_abort_is_notified_once(connection: sa.Connection, listener: Listener) -> None:
    started(connection)
    listener.heard()
    core.cancel_job(connection, 1, abort=True)
    core.cancel_job(connection, 1, abort=True)
    assert listener.heard() == expect(("default", {"type": "abort_job_requested", "job_id": 1}))


def test_a_cancellation_is_not_notified(connection: sa.Connection, listener: Listener) -> None:
    core.defer_job(connection, new_job())
    listener.heard()
    core.cancel_job(connection, 1)
    assert listener.heard() == []


def test_rows_inserted_as_finished_need_not_think_of_finished_at(connection: sa.Connection) -> None:
    sql(
        connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES "
        "('default', 'task', 'succeeded'), ('default', 'task', 'cancelled'), ('default', 'task', 'todo')",
    )
    dated = query(connection, "SELECT finished_at IS NOT NULL FROM procrastinate_jobs ORDER BY id")
    assert dated == [(True,), (True,), (False,)]


def test_a_promoted_job_that_plain_sql_reschedules_waits_for_its_new_time(connection: sa.Connection) -> None:
    """The job was ready, but must not run before its new time."""
    core.defer_job(connection, new_job(scheduled_at=PAST))
    assert core.promote_jobs(connection).promoted == 1
    sql(connection, "UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 hour'")
    worker_id = core.register_worker(connection)
    assert core.promote_jobs(connection).promoted == 0
    assert core.fetch_jobs(connection, worker_id=worker_id, limit=1) == []


def test_a_parked_job_whose_lock_plain_sql_takes_away_is_ready(connection: sa.Connection) -> None:
    """Without its lock, the job no longer waits for the holder."""
    core.defer_jobs(connection, [new_job(lock="a"), new_job(lock="a")])
    core.promote_jobs(connection)
    sql(connection, "UPDATE procrastinate_jobs SET lock = NULL WHERE id = 2")
    worker_id = core.register_worker(connection)
    assert [job.id for job in core.fetch_jobs(connection, worker_id=worker_id, limit=5)] == [1, 2]


def test_postgresql_puts_the_functions_in_sql_in_place(connection: sa.Connection) -> None:
    """A call starts a query of its own, which costs more than the rest of an insert."""
    functions = query(
        connection,
        """
        SELECT proname, array(
            SELECT format('NULLIF(n, n)::text::%s', format_type(type, NULL)) FROM unnest(proargtypes) AS type
        )
        FROM pg_proc
        JOIN pg_language ON pg_language.oid = prolang
        WHERE lanname = 'sql' AND pronamespace = current_schema()::regnamespace
            AND proname <> 'procrastinate_is_set_by_session' -- reads a table, during a restore only
        """,
    )
    assert "procrastinate_queue_channel" in {name for name, _ in functions}
    for name, arguments in functions:
        plan = query(
            connection,
            f"EXPLAIN (VERBOSE) SELECT {name}({', '.join(arguments)}) FROM generate_series(1, 2) AS n",  # noqa: S608
        )
        assert name not in str(plan)
