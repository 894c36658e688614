"""The programs of examples/plain."""

from __future__ import annotations

import pytest

from tests.examples.programs import Programs

WORKER = ("procrastinate", "--app", "examples.plain.tasks.app", "worker", "--one-shot")


@pytest.fixture
def programs(database_url: str) -> Programs:
    """With a migrated database."""
    return Programs(database_url)


def test_the_sync_script_defers_and_a_worker_runs(programs: Programs) -> None:
    """But for the job that was rolled back."""
    assert "5 jobs are waiting or done" in programs.run("examples.plain.sync_script")
    printed = programs.run(*WORKER)
    assert "1 + 2 = 3" in printed
    assert "5 + 6 = 11" in printed
    assert "Hello, commit!" in printed
    assert "rollback" not in printed


def test_the_async_script_defers_and_a_worker_runs(programs: Programs) -> None:
    """The job of the higher priority first."""
    assert "3 jobs are waiting or done" in programs.run("examples.plain.async_script")
    printed = programs.run(*WORKER)
    assert printed.index("Hello, first!") < printed.index("1 + 2 = 3")
    assert "rollback" not in printed


@pytest.mark.parametrize("program", ["worker_in_thread", "worker_in_loop"])
def test_a_worker_in_the_program_runs_what_was_deferred(programs: Programs, program: str) -> None:
    """And stops when the program says so."""
    programs.run("examples.plain.async_script")
    printed = programs.run(f"examples.plain.{program}")
    assert "1 + 2 = 3" in printed
    assert "Hello, commit!" in printed
    assert printed.endswith("The worker has stopped\n")
