"""``procrastinate queues``: list the queues, pause and resume them."""

from __future__ import annotations

import argparse
import getpass
from typing import TYPE_CHECKING

from procrastinate import exceptions
from procrastinate._text.terminal import say, say_table
from procrastinate.app import App
from procrastinate.cli.arguments import until
from procrastinate.cli.json_output import write_json
from procrastinate.cli.waits import database_awaited
from procrastinate.queues import Pause

if TYPE_CHECKING:
    from procrastinate.core.inspection import QueueState


def add_queues_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`queues_command`."""
    parser.add_argument("action", nargs="?", choices=("list", "pause", "resume"), default="list", help="default: list")
    parser.add_argument("name", nargs="?", help="the queue to pause or resume")
    parser.add_argument("--reason", help="with pause: the cause, shown with the pause")
    parser.add_argument(
        "--until", type=until, help="with pause: when it ends by itself: after 30m, 2h, 1d, or ISO 8601 with a zone"
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def queues_command(app: App, arguments: argparse.Namespace) -> None:
    """List the queues, or pause or resume one.

    Raises
    ------
    ProcrastinateException
        The name of the queue is missing, or an option does not belong to the action.
    """
    if (arguments.name is None) != (arguments.action == "list"):
        raise exceptions.ProcrastinateException(
            "`queues pause` and `queues resume` need the name of a queue, and `queues` takes none"
        )
    if arguments.action != "pause" and (arguments.reason is not None or arguments.until is not None):
        raise exceptions.ProcrastinateException("--reason and --until belong to `queues pause`")
    with database_awaited(), app.open():
        _ACTIONS[arguments.action](app, arguments)


def _pause(app: App, arguments: argparse.Namespace) -> None:
    app.queues.pause(arguments.name, reason=arguments.reason, until=arguments.until, by=user_name())
    pause = next((one for one in app.queues.list() if one.queue == arguments.name), None)
    if pause is None:
        raise exceptions.ProcrastinateException(
            f"The pause of {arguments.name} has ended already. Give --until a later time by the clock of the database"
        )
    if arguments.json:
        write_json(pause)
    else:
        say(f"Paused {arguments.name}{_until(pause)}. Running jobs go on")


def _resume(app: App, arguments: argparse.Namespace) -> None:
    was_paused = app.queues.resume(arguments.name)
    if arguments.json:
        write_json({"queue": arguments.name, "was_paused": was_paused})
    else:
        say(f"Resumed {arguments.name}" if was_paused else f"{arguments.name} was not paused")


def _list(app: App, arguments: argparse.Namespace) -> None:
    pauses = {pause.queue: pause for pause in app.queues.list()}
    found = app.inspect.queues(sorted(pauses)).queues
    if arguments.json:
        write_json([{"queue": state, "pause": pauses.get(state.name)} for state in found])
        return
    # A narrow terminal cuts the last columns off.
    header = ("queue", "paused", "ready", "running", "scheduled", "blocked", "limited", "waiting for steps")
    say_table(header, [_row(state, is_paused=state.name in pauses) for state in found])
    for pause in pauses.values():
        say(f"{pause.queue} is paused{_details(pause)}")


def _row(state: QueueState, *, is_paused: bool) -> tuple[str, ...]:
    ready, *later, running = map(str, state.counts.values())
    return (state.name, "yes" if is_paused else "", ready, running, *later)


_ACTIONS = {"list": _list, "pause": _pause, "resume": _resume}


def _details(pause: Pause) -> str:
    by = f" by {pause.by}" if pause.by else ""
    reason = f": {pause.reason}" if pause.reason else ""
    return f"{_until(pause)}{by}{reason}"


def _until(pause: Pause) -> str:
    return "" if pause.until is None else f" until {pause.until:%Y-%m-%d %H:%M:%S} UTC"


def user_name() -> str | None:
    """Return the name of the user who runs the command, or ``None``. What is no text in it becomes a question mark."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container without a user database
        return None
    return name.encode(errors="replace").decode()
