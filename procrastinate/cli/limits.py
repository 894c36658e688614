"""``procrastinate limits``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from procrastinate import core, exceptions
from procrastinate._durations import setting
from procrastinate._quoting import quoted
from procrastinate._text.terminal import say, say_table
from procrastinate.app import App
from procrastinate.cli.arguments import WrongValue, integer
from procrastinate.cli.json_output import write_json
from procrastinate.cli.waits import database_awaited
from procrastinate.limits import ONE_KEY
from procrastinate.manager import Limits
from procrastinate.rates import Rate


def add_limits_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`limits_command`."""
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    actions = parser.add_subparsers(dest="limits_action", metavar="action", help="default: list")
    parser.set_defaults(limits_action="list")
    list_ = actions.add_parser("list", help="list the limits with the numbers of their jobs")
    show = actions.add_parser("show", help="show the jobs of one key")
    show.add_argument("name")
    show.add_argument("key", nargs="?", default=ONE_KEY, help="by default the key of a limit without keys")
    for parser_of_action in (list_, show):
        parser_of_action.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print the answer as JSON"
        )
    set_ = actions.add_parser("set", help="let other numbers hold than those of the code")
    set_.add_argument("name")
    set_.add_argument("--concurrency", type=integer, help="jobs of one key that may run at once")
    set_.add_argument("--total", type=integer, help="jobs of all keys that may run at once")
    rate: dict[str, Any] = {"type": _rate, "action": "append", "metavar": "COUNT/SECONDS"}
    set_.add_argument(
        "--rate", **rate, help="jobs of one key that may start in a window, such as 10/1; may be repeated"
    )
    set_.add_argument("--total-rate", **rate, help="jobs of all keys that may start in a window")
    set_.add_argument("--allow-undefined", action="store_true", help="also if no worker has defined the limit yet")
    actions.add_parser("reset", help="let the numbers of the code hold again").add_argument("name")


def limits_command(app: App, arguments: argparse.Namespace) -> None:
    """List limits, show a key, or let other numbers hold.

    Raises
    ------
    ProcrastinateException
        A name or a number is invalid.
    """
    with database_awaited(), app.open():
        try:
            _run(app.limits, arguments)
        except ValueError as error:
            raise exceptions.ProcrastinateException(str(error)) from error


def _run(limits: Limits, arguments: argparse.Namespace) -> None:
    if arguments.limits_action == "list":
        listed = limits.list()
        write_json(listed) if arguments.json else _print_list(listed)
    elif arguments.limits_action == "show":
        shown = limits.show(arguments.name, arguments.key)
        if arguments.json:
            write_json(shown)
            return
        say(f"slots: {shown.held}, running: {shown.running}, in line: {shown.in_line}")
        if shown.next_start is not None:
            say(f"next start: {shown.next_start:%Y-%m-%d %H:%M:%S.%f %Z}")
        say(f"oldest job with a slot: {_id(shown.oldest_id)}, next job in line: {_id(shown.next_id)}")
        if shown.next_weight > 1:
            say(f"the next job takes {shown.next_weight} slots")
    elif arguments.limits_action == "set":
        limits.set(
            arguments.name,
            concurrency=arguments.concurrency,
            total=arguments.total,
            rate=arguments.rate,
            total_rate=arguments.total_rate,
            allow_undefined=arguments.allow_undefined,
        )
        say(f"Limit {quoted(arguments.name)}: set")
    else:
        limits.reset(arguments.name)
        say(f"Limit {quoted(arguments.name)}: reset")


def _print_list(limits: Sequence[core.StoredLimit]) -> None:
    if not limits:
        say("No limits")
        return
    # A narrow terminal cuts the last columns off.
    header = ("limit", "in line", "slots taken", "concurrency", "total", "rate", "total rate", "note")
    say_table(header, [_row(one) for one in limits])


def _row(one: core.StoredLimit) -> tuple[str, ...]:
    notes = {"fair": one.fair, "set by an operator": one.is_set, "not defined by any worker": not one.is_defined}
    return (
        one.name,
        str(one.in_line),
        str(one.held),
        _number(one.concurrency),
        _number(one.total),
        _rates(one.rates),
        _rates(one.total_rates),
        ", ".join(note for note, holds in notes.items() if holds),
    )


def _rate(text: str) -> Rate:
    count, _, seconds = text.partition("/")
    try:
        terms = int(count), float(seconds)
    except ValueError:
        raise WrongValue(f"{text!r}: write COUNT/SECONDS, such as 10/1") from None
    try:
        return Rate(terms[0], per=terms[1])
    except ValueError as error:
        raise WrongValue(f"{text!r}: write COUNT/SECONDS, such as 10/1 ({error})") from None


def _rates(rates: Sequence[core.RateTerms]) -> str:
    return ", ".join(f"{rate.count} in {setting(rate.seconds)}" for rate in rates) or "-"


def _number(number: int | None) -> str:
    return "-" if number is None else str(number)


def _id(job_id: int | None) -> str:
    return "none" if job_id is None else str(job_id)
