"""``procrastinate logs``."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from procrastinate import App
from tests.cli.command import Command

HOSTILE = "first\n2026-01-01T00:00:00+00:00 INFO forged: line\x1b[31m"


@pytest.fixture
def command(database_url: str) -> Command:
    """Return the command on this test's database."""
    return Command(database_url)


@pytest.fixture
def job_id(database_url: str) -> int:
    """Return the id of a job with a log."""
    with App(connector=database_url).open() as app:
        job_id = app.configure_task("task").defer()
    content = json.dumps({"lines": [[1.5, "INFO", "shop", HOSTILE]], "left_out": 1})
    statement = (
        "INSERT INTO procrastinate_job_reports (job_id, attempt, kind, content) VALUES (:id, 1, 'log', :content)"
    )
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(
            sa.text(statement.replace(":content", "CAST(:content AS jsonb)")), {"id": job_id, "content": content}
        )
    engine.dispose()
    return job_id


def test_logs_of_a_job_cannot_forge_lines_or_control_a_terminal(command: Command, job_id: int) -> None:
    printed = command.run("logs", str(job_id)).stdout
    assert printed == (
        "Attempt 1\n  1 earlier lines are left out\n1970-01-01T00:00:01.500+00:00 INFO shop first\n"
        "    2026-01-01T00:00:00+00:00 INFO forged: line\\x1b[31m\n"
    )


def test_logs_of_a_job_as_json(command: Command, job_id: int) -> None:
    (log,) = json.loads(command.run("logs", str(job_id), "--json").stdout)
    assert log["left_out"] == 1
    assert log["lines"][0]["text"] == HOSTILE


def test_logs_of_an_unknown_job_are_an_error(command: Command) -> None:
    finished = command.run("logs", "987654", check=False)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert "987654" in finished.stderr
