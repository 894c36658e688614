"""``manage.py procrastinate worker | defer | healthchecks | shell | schema | ...``, for the project's app."""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

from procrastinate import cli, exceptions
from procrastinate._quoting import quoted_lines
from procrastinate.adapters.django.project_app import app
from procrastinate.cli.main import drop_output, reasons
from procrastinate.cli.stop_signals import sigterm_exits
from procrastinate.cli.sub_commands import SUB_COMMANDS, as_sentence
from procrastinate.cli.suggestions import with_suggestion

_LOG_LEVELS = {0: logging.WARNING, 1: logging.INFO}
_SKIP_CHECKS: tuple[tuple[str, ...], dict[str, Any]] = (
    ("--skip-checks",),
    {"action": "store_true", "help": "Skip system checks."},
)
_HELP = {
    "dev": "run a worker that follows the code, and the dashboard",
    "healthchecks": "check the database, the migrations and the app, or a worker",
    "schema": "plan the move from Procrastinate 3.x, go back, or end it",
    "celery-schedule": "print a schedule of Celery, or its rows, as code",
}
"""The help of each sub-command that does something else in Django."""
_RUN = {"worker": "_worker", "dev": "_dev", "healthchecks": "_healthchecks", "celery-schedule": "_celery_schedule"}
"""The methods that run sub-commands in Django."""
_OPTIONS: dict[str, dict[str, Any]] = {"celery-schedule": {"nargs": "?"}}
"""Options for the arguments of a sub-command: in Django, the path of a Celery app is optional."""
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class Command(BaseCommand):
    """Runs the sub-commands of ``procrastinate`` on the project's app. ``manage.py migrate`` applies the schema."""

    _words: list[str] | None = None
    """The command line, or ``None`` if a program calls the command: Django then looks at the arguments of all."""

    help = "Run a worker of this project, defer a job, check the set-up, or look at the queue."

    def create_parser(self, *args: Any, **kwargs: Any) -> CommandParser:
        """Create the parser and remember Django's common arguments for the sub-commands."""
        self._common_arguments: list[tuple[tuple[str, ...], dict[str, Any]]] = []
        parser = super().create_parser(*args, **kwargs)
        end = parser.error

        def error(message: str) -> Any:
            return end(with_suggestion(parser, message))

        parser.error = error  # type: ignore[method-assign]  # Django chooses the class
        return parser

    def add_base_argument(self, parser: CommandParser, *args: Any, **kwargs: Any) -> None:
        """Remember an argument that Django adds to all commands: ``--settings``, ``--traceback``, ``-v`` ..."""
        super().add_base_argument(parser, *args, **kwargs)
        self._common_arguments.append((args, kwargs))

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command line. Only the sub-commands that it names get their arguments: others take long to load."""
        self._words = argv[2:]
        try:
            super().run_from_argv(argv)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader of the output, for example head, has exited
            drop_output()
            sys.exit(1)
        except KeyboardInterrupt:  # Ctrl-C, the only way to end some sub-commands
            sys.exit(130)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the sub-commands, each with the arguments that it has outside Django."""
        commands = parser.add_subparsers(required=True, metavar="command")
        for command in SUB_COMMANDS:
            filled = self._add_command(commands, command.name, _HELP.get(command.name, command.help))
            if self._words is None or command.name in self._words:
                command.fill(filled, **_OPTIONS.get(command.name, {}))
                if command.name in _RUN:
                    filled.set_defaults(run=getattr(self, _RUN[command.name]))
        import_ = self._add_command(
            commands, "import_django_tasks", "move waiting tasks of django-tasks-db into the queue"
        )
        import_.add_argument("--watch", action="store_true", help="look for rows every second, until SIGINT or SIGTERM")
        import_.add_argument("--dry-run", action="store_true", help="count the rows, and change nothing")
        import_.set_defaults(run=self._import)

    def _add_command(self, commands: Any, name: str, help_: str) -> CommandParser:
        """Add a sub-command that also accepts Django's own arguments, before or after its name."""
        parser: CommandParser = commands.add_parser(
            name, help=help_, description=as_sentence(help_), formatter_class=DjangoHelpFormatter
        )
        for flags, options in (*self._common_arguments, _SKIP_CHECKS):
            parser.add_argument(*flags, **{**options, "default": argparse.SUPPRESS})
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the sub-command on the project's app."""
        try:
            with self._signals(options):
                options["run"](app, argparse.Namespace(**options))
        except (CommandError, BrokenPipeError):
            raise
        except (exceptions.ProcrastinateException, ImproperlyConfigured, TypeError, ValueError) as error:
            raise CommandError(quoted_lines(str(error))) from error
        except Exception as error:  # as outside Django; the traceback is there with --traceback
            raise CommandError(quoted_lines(reasons(error))) from error

    def _signals(self, options: dict[str, Any]) -> AbstractContextManager[None]:
        """Let SIGTERM end the command line. A program that calls the command decides on its signals itself."""
        is_left_alone = self._words is None or options.get("handles_signals", False)
        return nullcontext() if is_left_alone else sigterm_exits()

    def _worker(self, app: Any, arguments: argparse.Namespace) -> None:
        self._prepare_worker(arguments)
        cli.worker_command(app, arguments)

    def _dev(self, app: Any, arguments: argparse.Namespace) -> None:
        self._prepare_worker(arguments)
        cli.dev_command(app, arguments)

    @staticmethod
    def _prepare_worker(arguments: argparse.Namespace) -> None:
        """Configure logging if the project does not, and name the app for the banner."""
        if not logging.getLogger("procrastinate").hasHandlers():  # LOGGING does not configure these logs
            level = _LOG_LEVELS.get(arguments.verbosity, logging.DEBUG)
            logging.basicConfig(level=logging.WARNING, format=_LOG_FORMAT)
            logging.getLogger("procrastinate").setLevel(level)
        arguments.app = f"the app of the Django project ({settings.SETTINGS_MODULE})"

    def _import(self, app: Any, arguments: argparse.Namespace) -> None:
        # This needs the Tasks framework, which the other commands do without.
        from procrastinate.adapters.django.management.import_django_tasks import import_django_tasks

        import_django_tasks(arguments, write=self.stdout.write)

    def _healthchecks(self, app: Any, arguments: argparse.Namespace) -> None:
        from procrastinate.adapters.django.healthchecks import healthchecks

        if arguments.worker is None:
            healthchecks(app, write=self.stdout.write)
        else:
            cli.healthchecks_command(app, arguments)

    def _celery_schedule(self, app: Any, arguments: argparse.Namespace) -> None:
        from procrastinate.adapters.django.management.celery_schedule import celery_schedule

        celery_schedule(app, arguments)
