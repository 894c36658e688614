"""``manage.py procrastinate worker | defer | healthchecks | shell``, for the project's app."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

from procrastinate import cli, exceptions
from procrastinate._quoting import quoted_lines
from procrastinate.adapters.django.healthchecks import healthchecks
from procrastinate.adapters.django.project_app import app

_LOG_LEVELS = {0: logging.WARNING, 1: logging.INFO}
_SKIP_CHECKS: tuple[tuple[str, ...], dict[str, Any]] = (
    ("--skip-checks",),
    {"action": "store_true", "help": "Skip system checks."},
)
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class Command(BaseCommand):
    """The ``procrastinate`` command without ``schema``, which is ``manage.py migrate`` in Django."""

    help = "Run a worker of this project, defer a job, check the set-up, or look at the queue."

    def create_parser(self, *args: Any, **kwargs: Any) -> CommandParser:
        """Create the parser and remember Django's common arguments for the sub-commands."""
        self._common_arguments: list[tuple[tuple[str, ...], dict[str, Any]]] = []
        return super().create_parser(*args, **kwargs)

    def add_base_argument(self, parser: CommandParser, *args: Any, **kwargs: Any) -> None:
        """Remember an argument that Django adds to all commands: ``--settings``, ``--traceback``, ``-v`` ..."""
        super().add_base_argument(parser, *args, **kwargs)
        self._common_arguments.append((args, kwargs))

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the sub-commands, each with the arguments that it has outside Django."""
        commands = parser.add_subparsers(required=True, metavar="command")
        worker = self._add_command(commands, "worker", self._worker, "run jobs until stopped")
        cli.add_worker_arguments(worker)
        defer = self._add_command(commands, "defer", cli.defer_command, "defer a job of a task")
        cli.add_defer_arguments(defer)
        self._add_command(
            commands, "healthchecks", self._healthchecks, "check the database, the migrations and the app"
        )
        shell = self._add_command(commands, "shell", cli.shell_command, "look at jobs, retry and cancel them")
        cli.add_shell_arguments(shell)

    def _add_command(self, commands: Any, name: str, run: Callable[..., None], help_: str) -> CommandParser:
        """Add a sub-command that also accepts Django's own arguments, before or after its name."""
        parser: CommandParser = commands.add_parser(name, help=help_, formatter_class=DjangoHelpFormatter)
        for flags, options in (*self._common_arguments, _SKIP_CHECKS):
            parser.add_argument(*flags, **{**options, "default": argparse.SUPPRESS})
        parser.set_defaults(run=run)
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the sub-command on the project's app."""
        try:
            options["run"](app, argparse.Namespace(**options))
        except (exceptions.ProcrastinateException, TypeError, ValueError) as error:
            raise CommandError(quoted_lines(str(error))) from error

    def _worker(self, app: Any, arguments: argparse.Namespace) -> None:
        if not logging.getLogger("procrastinate").hasHandlers():  # LOGGING does not configure these logs
            level = _LOG_LEVELS.get(arguments.verbosity, logging.DEBUG)
            logging.basicConfig(level=logging.WARNING, format=_LOG_FORMAT)
            logging.getLogger("procrastinate").setLevel(level)
        cli.worker_command(app, arguments)

    def _healthchecks(self, app: Any, arguments: argparse.Namespace) -> None:
        healthchecks(app, write=self.stdout.write)
