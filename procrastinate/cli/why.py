"""``procrastinate why``: explain why a job, or a periodic task, does not run."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from procrastinate import exceptions
from procrastinate._quoting import quoted
from procrastinate._text.terminal import say
from procrastinate.app import App
from procrastinate.cli.arguments import given_name, integer
from procrastinate.cli.json_output import write_json
from procrastinate.cli.waits import database_awaited

if TYPE_CHECKING:
    from procrastinate.core.inspection import CheckResult, Explanation, TickExplanation

NEEDS_A_PERSON = 3
"""Exit status if the job does not run until a person does something, or if there is no such job."""
_COLOURS = {"blocked": "red", "missing": "red", "waits": "yellow"}
"""The colour for each :class:`~procrastinate.core.inspection.ReasonKind`."""


def add_why_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`why_command`."""
    parser.add_argument("job_id", nargs="?", type=integer, help="the id of the job")
    parser.add_argument(
        "--periodic", metavar="TASK", type=given_name, help="explain the last tick of this periodic task instead"
    )
    parser.add_argument("--periodic-id", metavar="ID", help="with --periodic: the schedule, if the task has several")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def why_command(app: App, arguments: argparse.Namespace) -> None:
    """Print why a job or a periodic task does not run, and what was excluded.

    Raises
    ------
    ProcrastinateException
        Neither a job nor a periodic task is given, or both are.
    ValueError
        The task has several schedules.
    SystemExit
        With status 3 if a person has to do something, or if there is no such job.
    """
    if (arguments.job_id is None) == (arguments.periodic is None):
        raise exceptions.ProcrastinateException("`why` needs the id of a job, or --periodic and the name of a task")
    explanation = _explain(app, arguments)
    if arguments.json:
        write_json(explanation)
    else:
        _print(explanation)
    if explanation.headline.kind in ("blocked", "missing"):
        sys.exit(NEEDS_A_PERSON)


def _explain(app: App, arguments: argparse.Namespace) -> Explanation | TickExplanation:
    from procrastinate.tick_explanation import explain_last_tick

    if arguments.periodic is not None:
        app.perform_import_paths()
    with database_awaited(), app.open():
        if arguments.periodic is None:
            return app.inspect.explain(arguments.job_id)
        return explain_last_tick(app, arguments.periodic, periodic_id=arguments.periodic_id)


def _subject(explanation: Explanation | TickExplanation) -> str:
    from procrastinate.core.inspection import Explanation

    if isinstance(explanation, Explanation):
        return f"Job {explanation.job_id}"
    return f"{explanation.task_name} {explanation.periodic_id}".rstrip()


def _print(explanation: Explanation | TickExplanation) -> None:
    headline, *others = explanation.reasons
    line = quoted(f"{_subject(explanation)} [{headline.code}]: {headline.text}")
    say(line, colour=_COLOURS.get(headline.kind, "green"))
    if headline.advice:
        say(quoted(f"  What to do: {headline.advice}"))
    for reason in others:
        say(quoted(f"Also [{reason.code}]: {reason.text}"))
        if reason.advice:
            say(quoted(f"  What to do: {reason.advice}"))
    say("Checked:")
    for check in explanation.checks:
        say(quoted(f"  {_line(check)}"))


def _line(check: CheckResult) -> str:
    if check.error is not None:
        return f"? {check.name}: could not be checked ({check.error})"
    return f"  {check.name}: not the reason" if check.found is None else f"* {check.name}: {check.found}"
