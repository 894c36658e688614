"""``procrastinate unique``: show which job holds a unique key, or free the key."""

from __future__ import annotations

import argparse
from typing import Any

from procrastinate import core
from procrastinate._text.terminal import say
from procrastinate.app import App
from procrastinate.cli.json_output import write_json
from procrastinate.cli.waits import database_awaited


def add_unique_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`unique_command`."""
    parser.add_argument("key", help="the unique key, as the page of its job shows it")
    parser.add_argument("--free", action="store_true", help="free the key; the job that holds it stays as it is")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def unique_command(app: App, arguments: argparse.Namespace) -> None:
    """Show the holder of a unique key, and free the key if asked."""
    with database_awaited(), app.open():
        held = app.job_manager.find_unique_key(arguments.key)
        was_freed = arguments.free and app.job_manager.free_unique_key(arguments.key)
    if arguments.json:
        write_json(_as_dict(arguments.key, held) | ({"was_freed": was_freed} if arguments.free else {}))
        return
    say(f"The key {arguments.key!r} is free" if held is None else _held(held))
    if was_freed:
        say("Freed")


def _as_dict(key: str, held: core.TakenKey | None) -> dict[str, Any]:
    if held is None:
        return {"key": key, "job_id": None, "until": None, "expires_at": None}
    return {"key": key, "job_id": held.job_id, "until": held.until, "expires_at": held.expires_at}


def _held(held: core.TakenKey) -> str:
    until = {"start": "until it starts", "end": "until it has ended"}.get(held.until or "", "")
    if held.expires_at is not None:
        until = f"until {held.expires_at:%Y-%m-%d %H:%M:%S %Z}"
    return f"Job {held.job_id} holds the key {held.key!r} {until}"
