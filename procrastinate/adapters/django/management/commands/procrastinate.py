"""``manage.py procrastinate worker | defer | healthchecks | shell``, for the project's app."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from procrastinate import cli, exceptions
from procrastinate.adapters.django.healthchecks import healthchecks
from procrastinate.adapters.django.project_app import app

_LOG_LEVELS = {0: logging.WARNING, 1: logging.INFO}
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class Command(BaseCommand):
    """What the ``procrastinate`` command does, but for ``schema``: that is ``manage.py migrate`` here."""

    help = "Run a worker of this project, defer a job, check the set-up, or look at the queue."

    def add_arguments(self, parser: CommandParser) -> None:
        """One sub-command each, with the arguments that it has outside Django."""
        commands = parser.add_subparsers(required=True, metavar="command")
        worker = commands.add_parser("worker", help="run jobs until stopped")
        cli.add_worker_arguments(worker)
        worker.set_defaults(run=self._worker)
        defer = commands.add_parser("defer", help="defer a job of a task")
        cli.add_defer_arguments(defer)
        defer.set_defaults(run=cli.defer_command)
        health = commands.add_parser("healthchecks", help="check the database, the migrations and the app")
        health.set_defaults(run=self._healthchecks)
        shell = commands.add_parser("shell", help="look at jobs, retry and cancel them")
        cli.add_shell_arguments(shell)
        shell.set_defaults(run=cli.shell_command)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the sub-command on the project's app."""
        try:
            options["run"](app, argparse.Namespace(**options))
        except (exceptions.ProcrastinateException, TypeError, ValueError) as error:
            raise CommandError(str(error)) from error

    def _worker(self, app: Any, arguments: argparse.Namespace) -> None:
        if not logging.getLogger("procrastinate").hasHandlers():  # LOGGING does not say where its logs go
            level = _LOG_LEVELS.get(arguments.verbosity, logging.DEBUG)
            logging.basicConfig(level=logging.WARNING, format=_LOG_FORMAT)
            logging.getLogger("procrastinate").setLevel(level)
        cli.worker_command(app, arguments)

    def _healthchecks(self, app: Any, arguments: argparse.Namespace) -> None:
        healthchecks(app, write=self.stdout.write)
