"""The worker command runs on uvloop where it is installed, and it is in the environment of the tests."""

from __future__ import annotations

import sys

import pytest
import uvloop

from procrastinate import exceptions
from procrastinate.cli.event_loop import loop_factory
from procrastinate.worker import CommandSettings, command_settings
from tests.cli.command import Command


@pytest.fixture
def command(database_url: str) -> Command:
    """With a job that prints the event loop it runs on."""
    command = Command(database_url)
    command.run("defer", "print_loop")
    return command


def test_the_worker_runs_on_uvloop(command: Command) -> None:
    """Nothing has to be said for it."""
    worker = command.run("-v", "worker", "--one-shot")
    assert worker.stdout == "uvloop\n"
    assert "The event loop is uvloop's" in worker.stderr


def test_the_worker_runs_on_asyncio_by_an_option(command: Command) -> None:
    """By an option."""
    worker = command.run("-v", "worker", "--one-shot", "--no-uvloop")
    assert worker.stdout == "asyncio.unix_events\n"
    assert "The event loop is asyncio's own" in worker.stderr


def test_the_worker_runs_on_asyncio_by_the_environment_unless_an_option_says_otherwise(command: Command) -> None:
    """Which the command line outdoes."""
    assert command.run("worker", "--one-shot", WORKER_UVLOOP="0").stdout == "asyncio.unix_events\n"
    command.run("defer", "print_loop")
    assert command.run("worker", "--one-shot", "--uvloop", WORKER_UVLOOP="0").stdout == "uvloop\n"


def test_where_it_is_not_installed_asyncios_own_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it is asked for, the error names what to install."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory(None) is None
    with pytest.raises(exceptions.MissingExtra, match=r'pip install "procrastinate\[uvloop\]"'):
        loop_factory(True)


def test_where_it_is_installed() -> None:
    """It is taken, unless it is switched off."""
    assert loop_factory(None) is loop_factory(True) is uvloop.new_event_loop
    assert loop_factory(False) is None


def test_what_the_app_says_counts_where_nothing_is_given() -> None:
    """What is given counts more."""
    assert command_settings({"processes": 3, "uvloop": False, "name": "n"}, {}) == CommandSettings(
        processes=3, uvloop=False
    )
    assert command_settings({"processes": 3}, {"processes": 1}) == CommandSettings()


def test_settings_that_make_no_sense_are_refused() -> None:
    """By name."""
    with pytest.raises(ValueError, match="processes must be at least 1"):
        CommandSettings(processes=0)
    with pytest.raises(TypeError, match="processes must be a whole number"):
        command_settings({"processes": "2"})
    with pytest.raises(TypeError, match="uvloop must be True or False"):
        command_settings({"uvloop": "no"})
