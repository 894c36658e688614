"""A worker says at its start what it is."""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import os
import pty
import re
import subprocess
import sys

import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate.cli.banner import Schedule, WorkerDescription, banner, describe_worker, tell
from tests.cli.command import Command

DESCRIPTION = WorkerDescription(
    release="4.0",
    app="shop.queue",
    database="host='db'",
    queues=["mail", "reports"],
    concurrency=3,
    processes=1,
    tasks=["shop.send"],
    periodic=[Schedule("shop.tidy", "", "0 4 * * *", datetime.datetime(2030, 1, 1, 4, tzinfo=datetime.UTC))],
    shutdown_graceful_timeout=30.0,
)


def test_a_banner_names_what_shows_a_mistake() -> None:
    text = banner(DESCRIPTION, colours=False)
    for fact in (
        *("Procrastinate 4.0", "shop.queue", "host='db'", "mail, reports", "3 jobs at a time", "shop.send"),
        *("shop.tidy  0 4 * * *  next 2030-01-01 04:00:00 UTC", "Ctrl-C lets running jobs end within 30 s"),
    ):
        assert fact in text


def test_a_banner_of_several_processes_names_their_number() -> None:
    assert "3 jobs at a time in each of 4 processes" in banner(
        dataclasses.replace(DESCRIPTION, processes=4), colours=False
    )


def test_a_banner_says_that_there_are_no_tasks() -> None:
    lines = banner(dataclasses.replace(DESCRIPTION, tasks=[], periodic=[]), colours=False).splitlines()
    assert [line.split() for line in lines if line.endswith("none")] == [["tasks", "none"], ["periodic", "none"]]


def test_a_banner_counts_the_tasks_that_it_does_not_name() -> None:
    text = banner(dataclasses.replace(DESCRIPTION, tasks=[f"task{n:03}" for n in range(20)]), colours=False)
    assert "task011" in text
    assert "task012" not in text
    assert "and 8 more" in text


def test_a_banner_quotes_what_a_program_has_named() -> None:
    text = banner(dataclasses.replace(DESCRIPTION, tasks=["a\x1b[2Jb\nDeferred"]), colours=False)
    assert "\x1b" not in text
    assert "\nDeferred" not in text


def test_a_description_has_the_tasks_of_the_app_and_no_password() -> None:
    app = procrastinate.App(connector="postgresql+psycopg://me:hunter2@db.example/shop")
    app.periodic(cron="* * * * *", periodic_id="often")(app.task(name="tick", aliases=["old"])(lambda timestamp: None))
    description = describe_worker(app, app.make_worker(queues=["a"]), path="shop.app", processes=1)
    assert (description.tasks, description.queues) == (["tick"], ["a"])
    assert [(one.task, one.periodic_id, one.cron) for one in description.periodic] == [("tick", "often", "* * * * *")]
    assert description.periodic[0].next_tick > datetime.datetime.now(tz=datetime.UTC)
    assert "db.example" in description.database
    assert "hunter2" not in repr(description)


def test_a_description_names_the_database_of_an_engine_and_no_password() -> None:
    app = procrastinate.App(connector=sa.create_engine("postgresql+psycopg://me:hunter2@db.example/shop"))
    description = describe_worker(app, app.make_worker(), path=None, processes=1)
    assert description.database == "host='db.example', dbname='shop', user='me'"


def test_a_worker_off_a_terminal_logs_one_record_with_the_facts(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    app = procrastinate.App(connector="postgresql+psycopg://me:hunter2@db.example/shop")
    with caplog.at_level("INFO"):
        tell(app.make_worker(), DESCRIPTION)
    (record,) = (one for one in caplog.records if one.name == "procrastinate.worker")
    values = vars(record)
    assert (values["action"], values["worker_app"], values["worker_queues"]) == (
        "describe_worker",
        "shop.queue",
        ["mail", "reports"],
    )
    assert json.loads(json.dumps(values["worker_periodic"]))[0]["next_tick"] == "2030-01-01T04:00:00+00:00"
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_a_misspelt_environment_variable_is_told_when_a_worker_starts(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those that Kubernetes sets for a service of this name."""
    for name in ("CONCURENCY", "QUEUE", "ONE_SHOT", "PORT", "SERVICE_HOST", "PORT_80_TCP"):
        monkeypatch.setenv(f"PROCRASTINATE_WORKER_{name}", "1")
    said = Command(database_url).run("worker", "--one-shot", "--processes=2").stderr
    assert re.findall(r"PROCRASTINATE_WORKER_(\w+) has no effect: write PROCRASTINATE_WORKER_(\S+)", said) == [
        ("CONCURENCY", "CONCURRENCY"),
        ("ONE_SHOT", "WAIT=false"),
        ("QUEUE", "QUEUES"),
    ]


def test_the_command_shows_the_banner_on_a_terminal_only(database_url: str) -> None:
    command = Command(database_url)
    assert "Ctrl-C" not in command.run("worker", "--one-shot").stderr
    main, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "procrastinate", "worker", "--one-shot", "--queues=mail"],
        env={**os.environ, "TESTS_CLI_DATABASE_URL": database_url, "PROCRASTINATE_APP": "tests.cli.shop.app"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        shown = _read_to_end(main)
        assert process.wait(60) == 0
    assert "Procrastinate 4" in shown
    assert "tests.cli.shop.app" in shown
    assert "Ctrl-C again" in shown


def _read_to_end(descriptor: int) -> str:
    parts = []
    try:
        while part := os.read(descriptor, 65536):
            parts.append(part)
    except OSError:  # the other end is closed
        pass
    os.close(descriptor)
    return b"".join(parts).decode()
