"""The project of examples/celery_app moves, with messages in its broker."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from tests import brokers
from tests.examples.programs import ROOT

BROKERS = {"redis": brokers.redis, "rabbitmq": brokers.rabbitmq}
APP = ("procrastinate", "--app", "examples.celery_app.after.project.app")


class Project:
    """Runs the programs of the example."""

    def __init__(self, database_url: str, broker: str) -> None:
        self._environment = {
            "DATABASE_URL": database_url,
            "CELERY_BROKER": broker,
            "PROCRASTINATE_CELERY_BROKER": broker,
        }
        self._engine = sa.create_engine(database_url, poolclass=sa.NullPool)

    def start(self, module: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start ``python -m module``."""
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, **self._environment, **environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, module: str, *arguments: str) -> str:
        """Run ``python -m module`` to its end, and return what it printed."""
        process = self.start(module, *arguments)
        output, _ = process.communicate(timeout=90)
        assert process.returncode == 0, output
        return output

    def jobs(self) -> list[Any]:
        """Rows of the jobs."""
        statement = (
            "SELECT task_name, status::text, queue_name, priority, scheduled_at FROM procrastinate_jobs ORDER BY id"
        )
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement))]


@contextlib.contextmanager
def project_on(name: str, database_url: str, directory: pathlib.Path) -> Iterator[Project]:
    """The example, with a broker of its own."""
    with BROKERS[name](directory) as broker:
        yield Project(database_url, broker)


@pytest.fixture
def on_redis(database_url: str, tmp_path: pathlib.Path) -> Iterator[Project]:
    """The example, with Redis."""
    with project_on("redis", database_url, tmp_path) as project:
        yield project


@pytest.mark.parametrize("broker", BROKERS)
def test_messages_become_jobs_that_run_once(broker: str, database_url: str, tmp_path: pathlib.Path) -> None:
    with project_on(broker, database_url, tmp_path) as project:
        project.run("examples.celery_app.before.enqueue")
        moved = project.run(*APP, "celery-bridge", "--queue", "celery", "--once")
        # RabbitMQ drops a message that has expired, and Redis keeps it.
        expected = 4 if broker == "redis" else 3
        assert f"{expected} messages became jobs, 1 went to other queues." in moved
        assert "goes to the queue celery.left: it belongs to a canvas (chain)" in moved
        assert "guest:guest" not in moved
        waiting = {(name, queue, priority, at and at.year) for name, _, queue, priority, at in project.jobs()}
        later = ("shop.charge", "celery", -3 if broker == "redis" else 3, 2040)
        assert later in waiting
        again = project.run(*APP, "celery-bridge", "--queue", "celery", "--once")
        assert "0 messages became jobs, 0 went to other queues." in again
        if broker == "rabbitmq":
            missing = project.start(*APP, "celery-bridge", "--queue", "nowhere", "--once")
            refusal, _ = missing.communicate(timeout=60)
            assert missing.returncode == 1
            assert "The broker refuses a queue" in refusal
            assert "Traceback" not in refusal
    printed = project.run(*APP, "worker", "--one-shot")
    assert printed.count("Order 1 is charged 10") == 1
    assert printed.count("Order 3 is shipped in run 2") == 1
    assert "Order 2 is charged" not in printed
    assert "The report of late" not in printed
    statuses = {(name, status) for name, status, *_ in project.jobs()}
    assert {("shop.charge", "succeeded"), ("shop.charge", "todo"), ("shop.ship", "succeeded")} <= statuses


def test_a_canvas_that_is_left_is_finished_by_celery(on_redis: Project) -> None:
    on_redis.run("examples.celery_app.before.enqueue")
    on_redis.run(*APP, "celery-bridge", "--queue", "celery", "--once")
    options = ("--pool", "solo", "--queues", "celery.left,celery", "--without-gossip", "--without-mingle")
    worker = on_redis.start("celery", "--app", "examples.celery_app.before.project.app", "worker", *options)
    assert worker.stdout is not None
    printed = ""
    while "The report of second is written" not in printed:
        line = worker.stdout.readline()
        assert line, printed
        printed += line
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=30)
    assert "The report of first is written" in printed
    assert "is charged" not in printed


def test_a_bridge_that_is_killed_before_it_acknowledges_makes_no_second_job(on_redis: Project) -> None:
    on_redis.run("examples.celery_app.before.enqueue")
    killed = on_redis.start("tests.examples.killed_bridge", "celery")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert on_redis.jobs()  # as many as were at hand
    # Redis gives a message of a dead consumer to others after the time that the transport is told.
    on_redis.run("tests.examples.killed_bridge", "restore")
    on_redis.run(*APP, "celery-bridge", "--queue", "celery", "--once")
    names = sorted(job[0] for job in on_redis.jobs())
    assert names == ["shop.charge", "shop.charge", "shop.report", "shop.ship"]


def test_the_bridge_waits_for_a_database_that_is_away(on_redis: Project, database_url: str) -> None:
    on_redis.run("examples.celery_app.before.enqueue")
    engine = sa.create_engine(database_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("ALTER TABLE procrastinate_jobs RENAME TO away"))
    bridge = on_redis.start(*APP, "celery-bridge", "--queue", "celery")
    assert bridge.stdout is not None
    assert "The database takes no job" in next(line for line in bridge.stdout if "database" in line)
    with engine.connect() as connection:
        connection.execute(sa.text("ALTER TABLE away RENAME TO procrastinate_jobs"))
    while "goes to the queue celery.left" not in bridge.stdout.readline():
        assert bridge.poll() is None
    while len(on_redis.jobs()) < 4:
        assert bridge.poll() is None
    bridge.send_signal(signal.SIGTERM)
    output, _ = bridge.communicate(timeout=30)
    assert bridge.returncode == 0
    assert "4 messages became jobs, 1 went to other queues." in output


def test_the_printed_schedule_is_the_one_that_the_example_has() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "procrastinate", "celery-schedule", "examples.celery_app.before.project.app"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    module = (ROOT / "examples/celery_app/after/schedule.py").read_text()
    assert printed.strip().replace("'", '"') in module
