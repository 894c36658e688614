"""The sub-commands of ``procrastinate``. The module of one is imported when it is used, or its arguments are shown."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class SubCommand:
    """A sub-command of the command line.

    Its module of :mod:`procrastinate.cli` has two functions: ``FUNCTION_command`` runs it, and
    ``add_FUNCTION_arguments`` adds its arguments to a parser. A module with its own signal handlers says
    ``HANDLES_SIGNALS = True``.
    """

    name: str
    help: str
    module: str
    function: str

    def fill(self, parser: argparse.ArgumentParser, **options: Any) -> None:
        """Add the arguments, and the function to run with them.

        Parameters
        ----------
        options:
            Keyword arguments of the function that adds the arguments.
        """
        module = importlib.import_module(f"procrastinate.cli.{self.module}")
        getattr(module, f"add_{self.function}_arguments")(parser, **options)
        run: Callable[..., None] = getattr(module, f"{self.function}_command")
        needs_app: Callable[[argparse.Namespace], bool] = getattr(module, "needs_app", _always)
        handles_signals: bool = getattr(module, "HANDLES_SIGNALS", False)
        parser.set_defaults(run=run, needs_app=needs_app, handles_signals=handles_signals)


def as_sentence(help_: str) -> str:
    """Return a help text as the sentence that opens the help of its sub-command. Names keep their capitals."""
    return f"{help_[0].upper()}{help_[1:]}."


def _always(arguments: Any) -> bool:
    return True


def _of(name: str, help_: str, module: str | None = None, function: str | None = None) -> SubCommand:
    return SubCommand(name, help_, module or name, function or name)


SUB_COMMANDS = (
    _of("worker", "run jobs until stopped"),
    _of("dev", "run a worker that follows the code"),
    _of("defer", "defer a job"),
    _of("schema", "apply the schema, or print it"),
    _of("healthchecks", "check the app and its database, or a running worker"),
    _of("workflow", "print a workflow as a tree"),
    _of("shell", "inspect, retry and cancel jobs"),
    _of("doctor", "show what is wrong with the installation"),
    _of("check", "compare waiting jobs with the code"),
    _of("top", "show the queue on the terminal"),
    _of("why", "explain why a job does not run"),
    _of("logs", "print what the runs of a job logged", module="job_logs", function="job_logs"),
    _of("stack", "print where the code of a running job is"),
    _of("queues", "list, pause and resume queues"),
    _of("unique", "show or free a unique key"),
    _of("retry", "retry all failed jobs that match", module="bulk"),
    _of("cancel", "cancel all waiting jobs that match", module="bulk"),
    _of("dashboard", "serve pages that show the queue"),
    _of("metrics", "serve metrics for Prometheus and KEDA"),
    _of("limits", "list limits, or override their numbers"),
    _of("celery-bridge", "turn messages of Celery into jobs", module="celery_bridge", function="bridge"),
    _of("celery-schedule", "print a schedule of Celery as code", module="celery_schedule", function="schedule"),
)
