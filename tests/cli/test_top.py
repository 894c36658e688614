"""``procrastinate top``."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time

import pytest
import sqlalchemy as sa

from procrastinate import App, core
from tests.cli.command import DEADLINE, Command


@pytest.fixture
def command(database_url: str, connection: sa.Connection) -> Command:
    """Return the command on a queue with a waiting and a running job."""
    with App(connector=database_url).open() as app:
        app.configure_task("waits", queue="mail\x1b[31m").defer()
        app.configure_task("runs", priority=1).defer()
    connection.exec_driver_sql("UPDATE procrastinate_jobs SET status = 'doing', worker_id = 7 WHERE task_name = 'runs'")
    core.register_worker(connection)
    return Command(database_url)


def test_a_snapshot_in_a_pipe_is_plain(command: Command) -> None:
    text = command.run("top").stdout
    assert "Jobs     1 ready, 1 running, 0 scheduled, 0 blocked, 0 limited, 0 waiting for steps" in text
    assert "Workers  1 alive" in text
    assert "Trouble  running without a live worker: 1" in text
    assert "Running\nid  task" in text
    assert "\x1b" not in text


def test_running_jobs_name_their_worker(command: Command, connection: sa.Connection) -> None:
    row = "(SELECT id FROM procrastinate_workers)"
    connection.exec_driver_sql("UPDATE procrastinate_workers SET name = 'night shift'")
    connection.exec_driver_sql(f"UPDATE procrastinate_jobs SET worker_id = {row} WHERE task_name = 'runs'")  # noqa: S608
    assert command.run("top").stdout.splitlines()[-1].endswith("night shift")


def test_a_snapshot_as_json(command: Command) -> None:
    answer = json.loads(command.run("top", "--json").stdout)
    assert answer["overview"]["workers_alive"] == 1
    assert answer["running"]["jobs"][0]["task_name"] == "runs"


def test_a_database_that_cannot_be_reached_fails_a_snapshot() -> None:
    finished = Command("postgresql+psycopg://ada@127.0.0.1:1/nowhere").run("top", check=False)
    assert finished.returncode == 1
    assert "cannot be reached" in finished.stderr


def test_a_terminal_is_drawn_again_until_ctrl_c(command: Command) -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "TESTS_CLI_DATABASE_URL": command.database_url, "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "procrastinate", "--app=tests.cli.shop.app", "top", "--interval=0.1"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment,
        start_new_session=True,
    )
    os.close(follower)
    seen, end = b"", time.monotonic() + DEADLINE
    while seen.count(b"Procrastinate on") < 3 and time.monotonic() < end:
        seen += os.read(leader, 65_536)
    process.send_signal(signal.SIGINT)
    while b"\x1b[?1049l" not in seen and time.monotonic() < end:
        seen += os.read(leader, 65_536)
    assert process.wait(DEADLINE) == 0
    os.close(leader)
    assert seen.startswith(b"\x1b[?1049h")
    assert b"mail\x1b" not in seen


def test_the_screen_says_that_the_database_does_not_answer() -> None:
    """The figures on the screen are old then."""
    leader, follower = pty.openpty()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://ada@127.0.0.1:{silent.getsockname()[1]}/nowhere?connect_timeout=60"
        process = subprocess.Popen(
            [sys.executable, "-m", "procrastinate", "--app=tests.cli.shop.app", "top"],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env={**os.environ, "TESTS_CLI_DATABASE_URL": url, "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(follower)
        seen, end = b"", time.monotonic() + DEADLINE
        try:
            while b"The database has not answered since" not in seen and time.monotonic() < end:
                seen += os.read(leader, 65_536)
        finally:
            process.kill()
            process.wait(DEADLINE)
            os.close(leader)
