"""``procrastinate retry`` and ``procrastinate cancel``: change all jobs that match, in short steps."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from procrastinate._text.terminal import counted, say
from procrastinate.app import App
from procrastinate.cli.arguments import Once, given_name, since
from procrastinate.cli.json_output import write_json
from procrastinate.cli.queues import user_name
from procrastinate.cli.waits import database_awaited

if TYPE_CHECKING:
    from procrastinate.core.bulk import BulkOperation
    from procrastinate.core.inspection import Count, JobSearch

_PAUSE = 0.5
"""Seconds between two looks at an operation on which another process is at work."""


def add_retry_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`retry_command`."""
    _add_arguments(parser, "retry", "that failed")


def add_cancel_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`cancel_command`."""
    _add_arguments(parser, "cancel", "that were deferred")


def _add_arguments(parser: argparse.ArgumentParser, word: str, happened: str) -> None:
    parser.add_argument("--task", action=Once, type=given_name, help="only jobs of this task")
    parser.add_argument("--queue", action=Once, type=given_name, help="only jobs of this queue")
    parser.add_argument(
        "--error",
        action=Once,
        type=given_name,
        help="only jobs with an error of this class: its path, or the end of it",
    )
    parser.add_argument(
        "--since",
        action=Once,
        type=since,
        help=f"only jobs {happened} since then: 30m, 2h, 1d, or ISO 8601 with a zone",
    )
    parser.add_argument("--yes", action="store_true", help=f"{word} them. Otherwise the jobs are only counted")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def retry_command(app: App, arguments: argparse.Namespace) -> None:
    """Retry all failed jobs that match."""
    _change(app, arguments, "retry")


def cancel_command(app: App, arguments: argparse.Namespace) -> None:
    """Cancel all waiting jobs that match."""
    _change(app, arguments, "cancel")


def _change(app: App, arguments: argparse.Namespace, kind: str) -> None:
    # The statements of the loads take long to build, and the other commands need none of them.
    from procrastinate.core import bulk
    from procrastinate.core.inspection import WAITING, Count, JobSearch, JobState

    earliest = None if arguments.since is None else arguments.since.isoformat()
    states = {"retry": (JobState.FAILED,), "cancel": WAITING}
    searches = [
        JobSearch(
            state=state,
            task=arguments.task,
            queue=arguments.queue,
            error=arguments.error,
            ended_since=earliest if kind == "retry" else None,
            deferred_since=earliest if kind == "cancel" else None,
        )
        for state in states[kind]
    ]
    with database_awaited(), app.open():
        counts = [app.inspect.run(bulk.count_matching_jobs, search) for search in searches]
        matching = Count(number=sum(one.number for one in counts), is_more=any(one.is_more for one in counts))
        if not arguments.yes:
            _preview(arguments, kind, matching)
            return
        done = [
            _work(app, kind, search, count, _tell(arguments))
            for search, count in zip(searches, counts, strict=True)
            if count.number or count.is_more
        ]
    _report(arguments, kind, done)


def _preview(arguments: argparse.Namespace, kind: str, matching: Count) -> None:
    if arguments.json:
        write_json({"kind": kind, "matching": matching.number, "is_more": matching.is_more, "changed": 0})
    else:
        if matching.number == 1 and not matching.is_more:
            say(f"1 job matches. Nothing was changed: add --yes to {kind} it")
        elif matching.number:
            say(f"{matching} jobs match. Nothing was changed: add --yes to {kind} them")
        elif matching.is_more:
            say(f"No match so far, and the search stopped. Nothing was changed: add --yes to {kind} all that match")
        else:
            say("No job matches")


def _work(app: App, kind: str, search: JobSearch, count: Count, tell: Callable[[str], None]) -> BulkOperation:
    """Run the steps of an operation until it is over. Workers may do some of them, or all if this one ends."""
    from procrastinate.core import bulk

    run = app.inspect.run
    operation_id = run(bulk.start_bulk_operation, kind, search, requested_by=user_name(), expected=count.number)
    try:
        while True:
            is_at_work_elsewhere = not run(bulk.step_bulk_operation, operation_id)
            (operation,) = run(bulk.load_bulk_operations, operation_id)
            if operation.is_over:
                return operation
            tell(f"{counted(operation.changed, 'job')}, {operation.part:.0%}")
            if is_at_work_elsewhere:
                time.sleep(_PAUSE)
    except (KeyboardInterrupt, SystemExit):
        say(f"Workers go on with operation {operation_id}. To stop it, cancel it in the dashboard", sys.stderr)
        raise


def _tell(arguments: argparse.Namespace) -> Callable[[str], None]:
    return (lambda text: None) if arguments.json else lambda text: say(text, sys.stderr)


def _report(arguments: argparse.Namespace, kind: str, done: list[BulkOperation]) -> None:
    changed, skipped = sum(one.changed for one in done), sum(one.skipped for one in done)
    if arguments.json:
        errors = [one.error for one in done if one.error is not None]
        ids = [one.id for one in done]
        write_json({"kind": kind, "changed": changed, "skipped": skipped, "operations": ids, "errors": errors})
        return
    rest = f", {skipped} could not be changed" if skipped else ""
    say(f"{'Retried' if kind == 'retry' else 'Cancelled'} {counted(changed, 'job')}{rest}")
    for error in (one.error for one in done if one.error is not None):
        say(f"The database refused {error}", sys.stderr)
    for one in done:
        if one.state == "cancelled":
            say(f"Operation {one.id} was cancelled before its end", sys.stderr)
