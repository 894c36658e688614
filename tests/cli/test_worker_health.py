"""``procrastinate healthchecks --worker``: the check of the workers that run on the same host."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import subprocess
import sys

import pytest
import sqlalchemy as sa

from procrastinate import App, core, exceptions
from procrastinate.cli.healthchecks import check_workers_of_host
from procrastinate.core.tables import workers

IDENTITY = core.WorkerIdentity(
    name="mail",
    hostname=platform.node(),
    pid=os.getpid(),
    version="4",
    queues=None,
    concurrency=1,
    listens=True,
)


@pytest.fixture
def app(database_url: str) -> App:
    return App(connector=database_url)


def register(connection: sa.Connection, age: str = "0 s", loop_age: str = "0 s", **identity: object) -> None:
    """Register a worker whose last heartbeat, and whose loop, is this old."""
    terms = core.WorkerTerms(heartbeat_interval=10.0, stalled_timeout=30.0)
    changed = dataclasses.replace(IDENTITY, **identity)  # type: ignore[arg-type]
    worker_id = core.register_worker(connection, terms, changed)
    times = {
        "last_heartbeat": sa.text(f"now() - interval '{age}'"),
        "loop_beat_at": sa.text(f"now() - interval '{loop_age}'"),
    }
    connection.execute(sa.update(workers).where(workers.c.id == worker_id).values(**times))
    connection.commit()


def ended_process() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def check(app: App, name: str = "") -> None:
    with app.open():
        check_workers_of_host(app, name)


def test_a_worker_with_a_recent_heartbeat_is_healthy(
    app: App, connection: sa.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    register(connection)
    check(app)
    check(app, "mail")
    line = rf"Worker mail, process {os.getpid()}: OK, heartbeat \d+(\.\d)? m?s ago\n"
    assert re.fullmatch(line * 2, capsys.readouterr().out)


def test_workers_of_other_hosts_and_names_do_not_count(app: App, connection: sa.Connection) -> None:
    register(connection, hostname="elsewhere")
    with pytest.raises(exceptions.ProcrastinateException, match=r"^No worker of this host .* is registered"):
        check(app)
    register(connection)
    with pytest.raises(exceptions.ProcrastinateException, match=r"^No worker 'mai' of this host"):
        check(app, "mai")


def test_the_name_of_a_supervisor_stands_for_its_processes(
    app: App, connection: sa.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    register(connection, name="mail.1", pid=os.getpid())
    register(connection, name="mail.2", pid=os.getppid())
    check(app, "mail")
    assert capsys.readouterr().out.count(": OK") == 2


def test_a_silent_worker_fails(app: App, connection: sa.Connection) -> None:
    register(connection, age="31 s")
    with pytest.raises(exceptions.ProcrastinateException, match=r"^Worker mail, process \d+: no heartbeat for 31 s$"):
        check(app)


def test_a_worker_whose_event_loop_is_blocked_fails(app: App, connection: sa.Connection) -> None:
    register(connection, loop_age="40 s")
    with pytest.raises(exceptions.ProcrastinateException, match=r"a job has blocked the event loop for 40 s$"):
        check(app)


@pytest.mark.parametrize(("loop_age", "is_blocked"), [("19 s", False), ("29 s", True)])
def test_a_loop_that_turned_at_the_last_heartbeat_but_one_is_not_blocked(
    app: App, connection: sa.Connection, loop_age: str, is_blocked: bool
) -> None:
    """A heartbeat tells of the turn that the one before has asked for, and may be nearly ten seconds old itself."""
    register(connection, age="9 s", loop_age=loop_age)
    connection.execute(sa.update(workers).values(stalled_timeout=15.0))
    connection.commit()
    if not is_blocked:
        check(app)
    else:
        with pytest.raises(exceptions.ProcrastinateException, match=r"a job has blocked the event loop for 29 s$"):
            check(app)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_worker_fails_once_threads_of_jobs_that_timed_out_have_all_its_slots(
    app: App, connection: sa.Connection, lost: int
) -> None:
    register(connection, concurrency=2)
    connection.execute(sa.update(workers).values(lost_threads=lost))
    connection.commit()
    if lost == 1:
        check(app)
    else:
        with pytest.raises(exceptions.ProcrastinateException, match=r"^Worker mail, process \d+: starts no job"):
            check(app)


def test_rows_of_processes_that_have_ended_do_not_count(app: App, connection: sa.Connection) -> None:
    register(connection, pid=ended_process())
    with pytest.raises(exceptions.ProcrastinateException, match="or its process has ended"):
        check(app)


def test_the_newest_worker_counts_if_a_container_has_started_again_with_the_same_pid(
    app: App, connection: sa.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    register(connection, age="20 min", uptime=3600.0)
    register(connection)
    check(app)
    assert capsys.readouterr().out.count(": OK") == 1


def test_workers_with_one_process_id_are_told_apart_by_their_names(
    app: App, connection: sa.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program may run several workers, and containers with one host name have the same process ids."""
    register(connection)
    register(connection, name="sms")
    for name in ("mail", "sms", ""):
        check(app, name)
    named = re.findall(r"Worker (\w+)", capsys.readouterr().out)
    assert (named[:2], sorted(named[2:])) == (["mail", "sms"], ["mail", "sms"])
    late = "UPDATE procrastinate_workers SET loop_beat_at = now() - interval '1 h' WHERE name = 'mail'"
    connection.execute(sa.text(late))
    connection.commit()
    check(app, "sms")
    with pytest.raises(exceptions.ProcrastinateException, match=r"Worker mail, .* has blocked the event loop"):
        check(app)


@pytest.mark.parametrize("time", ["infinity", "-infinity"])
def test_a_time_without_an_end_in_the_row_of_a_worker_stops_no_check_of_others(
    app: App, connection: sa.Connection, time: str
) -> None:
    """Before PostgreSQL 17, the difference to such a time is an error."""
    register(connection, name="odd")
    values = "SET last_heartbeat = CAST(:time AS timestamptz), loop_beat_at = CAST(:time AS timestamptz)"
    connection.execute(sa.text(f"UPDATE procrastinate_workers {values}"), {"time": time})
    register(connection)
    check(app, "mail")


def test_the_server_ends_a_check_that_waits_for_a_lock(app: App, engine: sa.Engine) -> None:
    """A check that is killed leaves its statement waiting at the server, and the next check adds another one."""
    with engine.connect() as locker, locker.begin():
        locker.exec_driver_sql("LOCK TABLE procrastinate_workers IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(exceptions.ConnectorException, match="statement timeout"):
            check(app)
