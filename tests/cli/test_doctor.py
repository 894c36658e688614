"""``procrastinate doctor``."""

from __future__ import annotations

import json
import pathlib
import tempfile

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.adapters.standalone import SQLAlchemyConnector
from procrastinate.connection_probe import probe_worker_connections
from tests import pgbouncer
from tests.cli.command import Command


@pytest.fixture
def command(database_url: str) -> Command:
    """Return the command on this test's database."""
    return Command(database_url)


def test_each_finding_is_a_line_with_code_meaning_and_way_out(command: Command) -> None:
    finished = command.run("doctor", check=False)
    assert finished.returncode == 3
    line, *_ = finished.stdout.splitlines()
    assert line.startswith("fault   no-worker: No worker is alive. Start one")
    assert "\x1b" not in finished.stdout
    assert finished.stdout.splitlines()[-1].endswith("1 fault, 2 warnings, 0 notes")


def test_warnings_count_only_if_they_should(command: Command, connection: sa.Connection) -> None:
    core.register_worker(connection)
    assert command.run("doctor").stdout.startswith("warning ")
    assert command.run("doctor", "--strict", check=False).returncode == 3


def test_the_doctor_as_json(command: Command) -> None:
    answer = json.loads(command.run("doctor", "--json", check=False).stdout)
    assert answer["findings"][0]["code"] == "no-worker"
    assert {"name": "Do notifications arrive", "found": [], "error": None} in answer["checks"]


def test_a_database_that_cannot_be_reached_is_a_finding() -> None:
    finished = Command("postgresql+psycopg://ada@127.0.0.1:1/nowhere").run("doctor", check=False)
    assert finished.returncode == 3
    assert finished.stdout.startswith("fault   database-unreachable: ")
    assert finished.stderr == ""


async def test_a_pooler_that_shares_sessions_is_found(database_url: str) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="pgbouncer-") as directory,
        pgbouncer.before(database_url, pathlib.Path(directory) / "run") as through,
    ):
        connector = SQLAlchemyConnector(through, connect_args={"prepare_threshold": None})
        findings, checks = await probe_worker_connections(connector.get_worker_connector())
    assert [one.code for one in findings] == ["pooled", "notifications-not-heard"]
    assert [check.found for check in checks] == [("pooled",), ("notifications-not-heard",)]


async def test_a_worker_that_cannot_connect_is_a_fault(database_url: str) -> None:
    elsewhere = {"host": "127.0.0.1", "port": 1}
    connector = SQLAlchemyConnector(database_url, worker_connect_args=elsewhere)
    (finding,), _ = await probe_worker_connections(connector.get_worker_connector())
    assert finding.code == "worker-cannot-connect"


async def test_a_connection_that_cannot_listen_is_named(database_url: str) -> None:
    connector = SQLAlchemyConnector(database_url, listen_connect_args={"host": "127.0.0.1", "port": 1})
    (finding,), _ = await probe_worker_connections(connector.get_worker_connector())
    assert finding.code == "listen-impossible"
