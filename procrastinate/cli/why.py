"""``procrastinate why``: explain why a job does not run."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from procrastinate._text.terminal import say
from procrastinate.app import App
from procrastinate.cli.arguments import integer
from procrastinate.cli.json_output import write_json
from procrastinate.cli.waits import database_awaited

if TYPE_CHECKING:
    from procrastinate.core.inspection import CheckResult, Explanation

NEEDS_A_PERSON = 3
"""Exit status if the job does not run until a person does something, or if there is no such job."""
_COLOURS = {"blocked": "red", "missing": "red", "waits": "yellow"}
"""The colour for each :class:`~procrastinate.core.inspection.ReasonKind`."""


def add_why_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`why_command`."""
    parser.add_argument("job_id", type=integer, help="the id of the job")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def why_command(app: App, arguments: argparse.Namespace) -> None:
    """Print why a job does not run, and what was excluded.

    Raises
    ------
    SystemExit
        With status 3 if a person has to do something, or if there is no such job.
    """
    with database_awaited(), app.open():
        explanation = app.inspect.explain(arguments.job_id)
    if arguments.json:
        write_json(explanation)
    else:
        _print(explanation)
    if explanation.headline.kind in ("blocked", "missing"):
        sys.exit(NEEDS_A_PERSON)


def _print(explanation: Explanation) -> None:
    headline, *others = explanation.reasons
    say(f"Job {explanation.job_id} [{headline.code}]: {headline.text}", colour=_COLOURS.get(headline.kind, "green"))
    if headline.advice:
        say(f"  What to do: {headline.advice}")
    for reason in others:
        say(f"Also [{reason.code}]: {reason.text}")
        if reason.advice:
            say(f"  What to do: {reason.advice}")
    say("Checked:")
    for check in explanation.checks:
        say(f"  {_line(check)}")


def _line(check: CheckResult) -> str:
    if check.error is not None:
        return f"? {check.name}: could not be checked ({check.error})"
    return f"  {check.name}: nothing found" if check.found is None else f"* {check.name}: {check.found}"
