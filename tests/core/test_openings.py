"""Locks and slots that a transaction leaves at any isolation level, while other sessions change the jobs that wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, LimitDefinition, Status
from procrastinate.core.steering import run_job_again
from tests.conformance.steps import PAST, query
from tests.database import new_job
from tests.invariants import come_to_rest

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
LEAVE: dict[str, Callable[[sa.Connection, int], Any]] = {
    "finish": lambda connection, job_id: core.finish_job_by_id(
        connection, job_id, status=Status.SUCCEEDED, delete=False
    ),
    "delete": lambda connection, job_id: core.finish_job_by_id(
        connection, job_id, status=Status.SUCCEEDED, delete=True
    ),
    "cancel": lambda connection, job_id: core.cancel_job(connection, job_id),
    "retry": lambda connection, job_id: core.retry_job_by_id(connection, job_id),
    "complete": lambda connection, job_id: core.finish_jobs(
        connection, [FinishedJob(id=job_id, attempts=0, status=Status.SUCCEEDED)], worker_id=1
    ),
}


def scene(connection: sa.Connection, waits_for: dict[str, str], *, started: bool) -> None:
    """Let job 1 have a lock or a slot, and jobs 2 and 3 wait for it."""
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=1)])
    core.defer_jobs(connection, [new_job(**waits_for) for _ in range(3)])
    settle(connection)
    worker_id = core.register_worker(connection)
    assert worker_id == 1
    if started:
        assert [job.id for job in core.fetch_jobs(connection, worker_id=worker_id, limit=5)] == [1]


def settle(connection: sa.Connection) -> None:
    """Promote and admit, like a worker."""

    def run(operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not core.is_atomic(operation):
            return operation(connection, *args, **kwargs)
        with connection.engine.begin() as other:
            return operation(other, *args, **kwargs)

    come_to_rest(run)  # type: ignore[arg-type]


def ready(connection: sa.Connection) -> list[int]:
    return [job_id for (job_id,) in query(connection, "SELECT id FROM procrastinate_jobs WHERE readiness = 1")]


@pytest.mark.parametrize("waits_for", [{"lock": "k"}, {"limit_name": "l", "limit_key": "k"}], ids=["lock", "limit"])
@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("level", LEVELS)
def test_a_transaction_of_any_level_leaves_although_the_next_job_was_changed(
    connection: sa.Connection, engine: sa.Engine, level: str, leave: str, waits_for: dict[str, str]
) -> None:
    scene(connection, waits_for, started=leave != "cancel")
    with engine.execution_options(isolation_level=level).connect() as users:
        users.exec_driver_sql("SELECT count(*) FROM procrastinate_jobs")  # its snapshot is older than the change
        connection.exec_driver_sql("UPDATE procrastinate_jobs SET priority = priority + 1 WHERE id = 2")
        assert LEAVE[leave](users, 1)
        users.commit()
    settle(connection)
    assert ready(connection) == ([2] if leave != "retry" else ready(connection))
    assert len(ready(connection)) == 1


@pytest.mark.parametrize("waits_for", [{"lock": "k"}, {"limit_name": "l", "limit_key": "k"}], ids=["lock", "limit"])
@pytest.mark.parametrize("level", LEVELS)
def test_a_rollback_takes_the_hand_over_back(
    connection: sa.Connection, engine: sa.Engine, level: str, waits_for: dict[str, str]
) -> None:
    scene(connection, waits_for, started=True)
    with engine.execution_options(isolation_level=level).connect() as users:
        assert core.finish_job_by_id(users, 1, status=Status.SUCCEEDED, delete=False)
        users.rollback()
    settle(connection)
    assert ready(connection) == []
    assert core.get_job_status(connection, 1) is Status.DOING


def test_an_open_transaction_that_gives_a_slot_away_stops_no_other_key(
    connection: sa.Connection, engine: sa.Engine
) -> None:
    scene(connection, {"limit_name": "l", "limit_key": "k"}, started=True)
    with engine.connect() as users:
        assert core.finish_job_by_id(users, 1, status=Status.SUCCEEDED, delete=False)
        core.defer_job(connection, new_job(limit_name="l", limit_key="other"))
        settle(connection)
        assert ready(connection) == [4]
        users.commit()
    assert sorted(ready(connection)) == [2, 4]


def test_a_job_that_got_in_line_unseen_by_the_leaver_is_admitted(connection: sa.Connection, engine: sa.Engine) -> None:
    """The leaver saw no job in line, and the admission saw the slot taken. Each looked before the other committed."""
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=1)])
    core.defer_job(connection, new_job(limit_name="l", limit_key="k"))
    settle(connection)
    core.register_worker(connection)
    core.fetch_jobs(connection, worker_id=1, limit=1)
    with engine.connect() as users:
        assert core.finish_job_by_id(users, 1, status=Status.SUCCEEDED, delete=False)
        core.defer_job(connection, new_job(limit_name="l", limit_key="k"))
        settle(connection)
        assert ready(connection) == []
        users.commit()
    settle(connection)
    assert ready(connection) == [2]


def test_a_sweep_opens_what_the_triggers_missed(connection: sa.Connection, engine: sa.Engine) -> None:
    scene(connection, {"limit_name": "l", "limit_key": "k"}, started=True)
    with engine.begin() as quiet:
        quiet.exec_driver_sql("SET LOCAL session_replication_role = replica")
        quiet.exec_driver_sql("UPDATE procrastinate_jobs SET status = 'failed' WHERE id = 1")
    assert core.sweep_lines(connection).opened == 1
    settle(connection)
    assert ready(connection) == [2]


def test_a_sweep_goes_on_where_it_ended(connection: sa.Connection) -> None:
    core.defer_jobs(connection, [new_job(limit_name=name, limit_key=key) for name in "ab" for key in ("", "k")])
    core.define_limits(connection, [LimitDefinition(name=name, concurrency=1) for name in "ab"])
    connection.exec_driver_sql("DELETE FROM procrastinate_openings")
    place, seen = core.sweep_lines(connection, limit=3), 0
    while place.reached is not None:
        seen += place.opened
        place = core.sweep_lines(connection, start=place.reached, limit=3)
    assert seen + place.opened == 4


def test_a_job_with_a_limit_always_has_a_schedule_while_it_waits(connection: sa.Connection) -> None:
    insert = "INSERT INTO procrastinate_jobs (queue_name, task_name, limit_name, limit_key) VALUES ('q', 't', 'l', 'k')"
    connection.exec_driver_sql(insert)
    core.defer_job(connection, new_job(limit_name="l", limit_key="k"))
    connection.exec_driver_sql("UPDATE procrastinate_jobs SET scheduled_at = NULL")
    assert query(connection, "SELECT count(*) FROM procrastinate_jobs WHERE scheduled_at IS NOT NULL") == [(2,)]
    core.register_worker(connection)
    assert core.fetch_jobs(connection, worker_id=1, limit=5) == []


def test_a_worker_of_3x_takes_no_job_in_line(connection: sa.Connection) -> None:
    scene(connection, {"limit_name": "l", "limit_key": "k"}, started=False)
    fetch = "SELECT id FROM procrastinate_fetch_job_v2(NULL, 1)"
    assert [query(connection, fetch) for _ in range(2)] == [[(1,)], [(None,)]]


def test_a_job_in_line_is_not_scheduled_in_its_history(connection: sa.Connection) -> None:
    core.defer_job(connection, new_job(limit_name="l", limit_key="k"))
    assert query(connection, "SELECT type::text FROM procrastinate_events") == [("deferred",)]


def test_two_admissions_take_turns(connection: sa.Connection, engine: sa.Engine) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=1)])
    core.defer_jobs(connection, [new_job(limit_name="l", limit_key="k") for _ in range(3)])
    with engine.begin() as first, engine.begin() as second:
        assert core.admit_jobs(first).admitted == 1
        admission = core.admit_jobs(second)
        assert (admission.had_turn, admission.admitted, admission.again) == (False, 0, True)


def test_a_promotion_of_the_release_before_sends_a_job_to_the_line(connection: sa.Connection) -> None:
    """It knows no limits, and makes each due job ready."""
    scene(connection, {"limit_name": "l", "limit_key": "k"}, started=True)
    core.defer_job(connection, new_job(limit_name="l", limit_key="k", scheduled_at=PAST))
    connection.exec_driver_sql("UPDATE procrastinate_jobs SET readiness = 1 WHERE id = 4 AND readiness = 0")
    assert query(connection, "SELECT readiness FROM procrastinate_jobs WHERE id = 4") == [(3,)]
    settle(connection)
    assert ready(connection) == []


REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'This one stays';
END
$$;
CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW WHEN (OLD.id = 2) EXECUTE FUNCTION refuse()
"""


def test_a_refused_job_keeps_no_other_job_from_the_slot(connection: sa.Connection, engine: sa.Engine) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=2)])
    core.defer_jobs(connection, [new_job(limit_name="l", limit_key="k") for _ in range(4)])
    connection.exec_driver_sql(REFUSE)
    with engine.begin() as other:
        admission = core.admit_jobs(other, one_by_one=True)
    assert [refusal.job_id for refusal in admission.refused] == [2]
    assert ready(connection) == [1, 3]


@pytest.mark.parametrize(
    ("error", "warned"), [("RAISE EXCEPTION 'stays'", False), ("PERFORM 1 / 0", True)], ids=["a refusal", "a mistake"]
)
def test_an_error_while_a_slot_is_handed_on_is_a_warning_unless_it_refuses_the_job(
    connection: sa.Connection, error: str, warned: bool
) -> None:
    """The job that leaves has left in both cases, and an admission gives its slot away."""
    scene(connection, {"limit_name": "l", "limit_key": "k"}, started=True)
    connection.exec_driver_sql(REFUSE.replace("RAISE EXCEPTION 'This one stays'", error))
    notices: list[str | None] = []
    connection.connection.driver_connection.add_notice_handler(  # type: ignore[union-attr]
        lambda diagnostic: notices.append(diagnostic.sqlstate)
    )
    assert core.finish_job_by_id(connection, 1, status=Status.SUCCEEDED, delete=False)
    assert notices == (["22012"] if warned else [])
    with connection.engine.begin() as other:
        core.admit_jobs(other, one_by_one=True)
    assert ready(connection) == [3]


def test_a_session_that_hands_nothing_over_opens_the_slot(connection: sa.Connection, engine: sa.Engine) -> None:
    scene(connection, {"limit_name": "l", "limit_key": "k"}, started=True)
    connection.exec_driver_sql(REFUSE)
    with engine.begin() as users:
        users.exec_driver_sql("SET LOCAL procrastinate.hand_over = 'off'")
        assert core.finish_job_by_id(users, 1, status=Status.SUCCEEDED, delete=False)
    with engine.begin() as other:
        core.admit_jobs(other, set_aside=[2])
    assert ready(connection) == [3]


def test_a_copy_of_a_job_has_its_limit(connection: sa.Connection) -> None:
    scene(connection, {"limit_name": "l", "limit_key": "k"}, started=True)
    core.finish_job_by_id(connection, 1, status=Status.SUCCEEDED, delete=False)
    assert run_job_again(connection, 1) == 4
    assert query(connection, "SELECT limit_name, limit_key, readiness FROM procrastinate_jobs WHERE id = 4") == [
        ("l", "k", 3)
    ]


def test_a_job_whose_lock_cannot_be_decided_keeps_no_slot_from_the_jobs_behind_it(
    connection: sa.Connection, engine: sa.Engine
) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=1)])
    core.defer_job(connection, new_job(lock="held"))
    settle(connection)
    with engine.connect() as users:
        users.exec_driver_sql("SELECT id FROM procrastinate_jobs WHERE id = 1 FOR UPDATE")
        limited = [new_job(limit_name="l", limit_key="k", lock="held"), new_job(limit_name="l", limit_key="k")]
        core.defer_jobs(connection, limited)
        with engine.begin() as other:
            admission = core.admit_jobs(other)
        assert (admission.admitted, admission.undecided) == (1, 1)
        assert 3 in ready(connection)
        users.rollback()


def test_a_limited_job_without_a_slot_passes_the_lock_on(connection: sa.Connection) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=0)])
    core.defer_job(connection, new_job(lock="k"))
    settle(connection)
    limited = {"lock": "k", "limit_name": "l", "limit_key": "k"}
    core.defer_jobs(connection, [new_job(**limited), new_job(**limited), new_job(lock="k")])
    connection.exec_driver_sql("UPDATE procrastinate_jobs SET readiness = 2 WHERE id > 1")
    assert core.cancel_job(connection, 1)
    for _ in range(5):  # a worker's looks, without its sweep
        with connection.engine.begin() as other:
            core.promote_jobs(other)
            core.admit_jobs(other)
    assert ready(connection) == [4]
