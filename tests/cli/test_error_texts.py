"""Error texts of the command: each says what to do, once, and without the names of classes."""

from __future__ import annotations

import socket

import pytest

from tests.cli.command import Command
from tests.schema.tables_of_3x import make_tables_of_3x


@pytest.fixture
def command(database_url: str) -> Command:
    """On a migrated database."""
    return Command(database_url)


def refused(command: Command, *arguments: str) -> str:
    """Run the command, expect a failure, and return what it says."""
    failed = command.run(*arguments, check=False, LOG_LEVEL="warning")
    assert failed.returncode == 1, failed
    return failed.stderr


@pytest.mark.parametrize("arguments", [("queues",), ("healthchecks",), ("defer", "add"), ("schema", "--plan")])
def test_a_database_that_is_down_is_reported_once(arguments: tuple[str, ...]) -> None:
    """Also if the driver's text has several lines, which are indented in the error of this package."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # no server listens there
        port = unused.getsockname()[1]
        said = refused(Command(f"postgresql+psycopg://me@127.0.0.1:{port}/none"), *arguments)
    assert said.count("Connection refused") == 1, said
    assert said.count("Is the server running") == 1, said


@pytest.mark.parametrize("arguments", [("queues",), ("defer", "add"), ("why", "1"), ("top",)])
@pytest.mark.parametrize("is_of_3x", [False, True])
def test_tables_of_another_release_are_reported_on_one_line(
    empty_database_url: str, arguments: tuple[str, ...], is_of_3x: bool
) -> None:
    """The name of a missing column, and the statement around it, would say nothing to do."""
    if is_of_3x:
        make_tables_of_3x(empty_database_url)
    said = refused(Command(empty_database_url), *arguments)
    assert said.startswith("The tables are ")
    assert "run `procrastinate schema --apply`" in said
    assert len(said.splitlines()) == 1, said


def test_a_task_that_is_not_there_brings_the_closest_one(command: Command) -> None:
    assert "or allow unknown tasks (--unknown). Did you mean add?" in refused(command, "defer", "ad")
    assert "Did you mean" not in refused(command, "defer", "xyzzy")


def test_wrong_arguments_of_a_task_are_refused_with_a_sentence(command: Command) -> None:
    said = refused(command, "defer", "add", '{"c": 1}')
    assert said == "Task add takes no argument 'c': it takes 'a', 'b'\n"


@pytest.mark.parametrize("name", ["dashboard", "metrics"])
def test_a_port_that_is_taken_is_named(command: Command, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused(command, name, f"--port={port}")
    assert said == (
        f"Cannot listen on port {port} of 127.0.0.1: Address already in use. Choose another with --port or --host\n"
    )


@pytest.mark.parametrize("name", ["dashboard", "metrics"])
def test_an_address_that_needs_a_login_is_refused_with_a_sentence(command: Command, name: str) -> None:
    assert refused(command, name, "--host=0.0.0.0").startswith("Other machines can reach 0.0.0.0: set PROCRASTINATE_")


def test_an_error_of_a_program_keeps_the_name_of_its_class(command: Command) -> None:
    """The text alone of a ValueError of Python is often unclear."""
    said = refused(command, "--app=tests.cli.broken_shop.app", "queues")
    assert said.startswith("Cannot import 'tests.cli.broken_shop' of 'tests.cli.broken_shop.app': ValueError: invalid")


def test_limits_without_an_action_lists_them(command: Command) -> None:
    assert command.run("limits").stdout == "No limits\n"
    assert command.run("limits", "--json").stdout == command.run("limits", "list", "--json").stdout


def test_a_time_that_is_too_far_away_is_refused_with_a_sentence(command: Command) -> None:
    said = refused(command, "defer", "--in=1e300", "add", '{"a": 1}')
    assert said.startswith("schedule_in={'seconds': 1e+300} is too far away")
