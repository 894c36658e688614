"""``procrastinate stack``."""

from __future__ import annotations

import json

import pytest

from tests.cli.command import Command


@pytest.fixture
def command(database_url: str) -> Command:
    """Return the command on this test's database."""
    return Command(database_url)


def test_the_stack_of_a_running_job_is_printed(command: Command) -> None:
    command.run("defer", "wait")
    with command.start("worker", "--one-shot", stderr=None) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "waiting\n"
        printed = command.run("stack", "1").stdout
        stack = json.loads(command.run("stack", "1", "--json").stdout)
        worker.communicate(timeout=30)
    assert printed.startswith("Attempt 1, as of 20")
    assert "in wait\n    sys.stdin.read()" in printed
    assert (stack["attempt"], "in wait\n" in stack["text"]) == (1, True)


def test_a_job_without_a_stack_is_an_error(command: Command) -> None:
    command.run("defer", "add")
    finished = command.run("stack", "1", check=False)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert "Job 1 does not run" in finished.stderr
