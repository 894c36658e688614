"""``procrastinate limits`` shows the limits, and lets other numbers hold."""

from __future__ import annotations

import argparse
import json

import pytest

import procrastinate
from procrastinate import core, exceptions
from procrastinate.cli.limits import add_limits_arguments, limits_command


@pytest.fixture
def app(database_url: str) -> procrastinate.App:
    app = procrastinate.App(connector=database_url)
    api = procrastinate.Limit("api <\x1b[31m>", concurrency=2)

    @app.task(name="call", limit=api)
    def call() -> None:
        """Do nothing."""

    with app.open():
        for _ in range(3):
            call.defer()
        app.run_worker(wait=False)
        call.defer()
    return app


def limits(app: procrastinate.App, *arguments: str) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser()
    add_limits_arguments(parser)
    limits_command(app, parser.parse_args(arguments))


def test_limits_are_listed_set_and_reset(app: procrastinate.App, capsys: pytest.CaptureFixture[str]) -> None:
    name = "api <\x1b[31m>"
    limits(app, "list")
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split("  ")[0] == "limit"
    assert printed.splitlines()[1].split()[-6:] == ["1", "0", "2", "-", "-", "-"]
    assert "\x1b" not in printed
    limits(app, "set", name, "--concurrency", "5")
    limits(app, "list", "--json")
    (listed,) = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert (listed["name"], listed["concurrency"], listed["is_set"], listed["in_line"]) == (name, 5, True, 1)
    limits(app, "reset", name)
    limits(app, "show", name)
    assert "slots: 0, running: 0, in line: 1" in capsys.readouterr().out
    limits(app, "show", name, "--json")
    assert json.loads(capsys.readouterr().out)["in_line"] == 1


def test_a_limit_that_has_only_a_rate_is_known_by_its_name(app: procrastinate.App) -> None:
    with app.open():
        app.connector.run(core.define_limits, [core.LimitDefinition(name="mail", rates=(core.RateTerms(5, 1.0),))])
    limits(app, "set", "mail", "--rate", "2/1")
    with app.open():
        assert [one.rates for one in app.limits.list() if one.name == "mail"] == [(core.RateTerms(2, 1.0),)]


def test_a_mistyped_name_is_refused_with_the_name_that_was_meant(app: procrastinate.App) -> None:
    mistyped = ("set", "apy <\x1b[31m>", "--concurrency", "1")
    with pytest.raises(exceptions.ProcrastinateException, match="did you mean 'api"):
        limits(app, *mistyped)
    with app.open():
        assert len(app.limits.list()) == 1
    limits(app, *mistyped, "--allow-undefined")
    with app.open():
        assert len(app.limits.list()) == 2


def test_rates_are_set_and_listed_and_the_next_start_is_shown(
    app: procrastinate.App, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "api <\x1b[31m>"
    limits(app, "set", name, "--rate", "1/3600", "--rate", "10/86400", "--total-rate", "5/0.5")
    limits(app, "list")
    assert "  1 in 1 h, 10 in 1 d  5 in 500 ms  set by an operator\n" in capsys.readouterr().out
    with app.open():
        app.run_worker(wait=False)
        app.configure_task("call").defer()
        app.tasks["call"].defer()
    limits(app, "show", name)
    assert "next start: 20" in capsys.readouterr().out


@pytest.mark.parametrize("rate", ["10", "x/1", "0/1", "1/0", "1/nan"])
def test_what_is_no_rate_is_refused(app: procrastinate.App, rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        limits(app, "set", "api", "--rate", rate)
    assert "write COUNT/SECONDS, such as 10/1" in capsys.readouterr().err


def test_a_number_below_zero_is_refused(app: procrastinate.App) -> None:
    with pytest.raises(exceptions.ProcrastinateException, match="concurrency"):
        limits(app, "set", "api", "--concurrency", "-1")
