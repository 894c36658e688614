"""``manage.py procrastinate worker | defer | healthchecks | shell | schema | ...``, for the project's app."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

from procrastinate import cli, exceptions
from procrastinate._quoting import quoted_lines
from procrastinate.adapters.django.healthchecks import healthchecks
from procrastinate.adapters.django.management.celery_schedule import celery_schedule
from procrastinate.adapters.django.project_app import app
from procrastinate.cli.suggestions import with_suggestion

_LOG_LEVELS = {0: logging.WARNING, 1: logging.INFO}
_SKIP_CHECKS: tuple[tuple[str, ...], dict[str, Any]] = (
    ("--skip-checks",),
    {"action": "store_true", "help": "Skip system checks."},
)
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class Command(BaseCommand):
    """What the ``procrastinate`` command does. The schema is applied by ``manage.py migrate``, and ``schema`` has the
    rest.
    """

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

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the sub-commands, each with the arguments that it has outside Django."""
        commands = parser.add_subparsers(required=True, metavar="command")
        worker = self._add_command(commands, "worker", self._worker, "run jobs until stopped")
        cli.add_worker_arguments(worker)
        dev = self._add_command(commands, "dev", self._dev, "run a worker that follows the code, and the dashboard")
        cli.add_dev_arguments(dev)
        defer = self._add_command(commands, "defer", cli.defer_command, "defer a job of a task")
        cli.add_defer_arguments(defer)
        healthchecks = self._add_command(
            commands, "healthchecks", self._healthchecks, "check the database, the migrations and the app, or a worker"
        )
        cli.add_healthchecks_arguments(healthchecks)
        schema = self._add_command(
            commands, "schema", cli.schema_command, "plan the move from Procrastinate 3.x, go back, or end it"
        )
        cli.add_schema_arguments(schema)
        shell = self._add_command(commands, "shell", cli.shell_command, "look at jobs, retry and cancel them")
        cli.add_shell_arguments(shell)
        doctor = self._add_command(commands, "doctor", cli.doctor_command, "show what is wrong with the installation")
        cli.add_doctor_arguments(doctor)
        check = self._add_command(commands, "check", cli.check_command, "compare waiting jobs with the code")
        cli.add_check_arguments(check)
        unique = self._add_command(commands, "unique", cli.unique_command, "show or free a unique key")
        cli.add_unique_arguments(unique)
        top = self._add_command(commands, "top", cli.top_command, "show the queue on the terminal")
        cli.add_top_arguments(top)
        why = self._add_command(commands, "why", cli.why_command, "explain why a job does not run")
        cli.add_why_arguments(why)
        queues = self._add_command(commands, "queues", cli.queues_command, "list, pause and resume queues")
        cli.add_queues_arguments(queues)
        limits = self._add_command(commands, "limits", cli.limits_command, "list limits, or override their numbers")
        cli.add_limits_arguments(limits)
        workflow = self._add_command(commands, "workflow", cli.workflow_command, "print a workflow as a tree")
        cli.add_workflow_arguments(workflow)
        retry = self._add_command(commands, "retry", cli.retry_command, "retry all failed jobs that match")
        cli.add_retry_arguments(retry)
        cancel = self._add_command(commands, "cancel", cli.cancel_command, "cancel all waiting jobs that match")
        cli.add_cancel_arguments(cancel)
        dashboard = self._add_command(commands, "dashboard", cli.dashboard_command, "serve pages that show the queue")
        cli.add_dashboard_arguments(dashboard)
        metrics = self._add_command(commands, "metrics", cli.metrics_command, "serve metrics for Prometheus and KEDA")
        cli.add_metrics_arguments(metrics)
        bridge = self._add_command(commands, "celery-bridge", cli.bridge_command, "turn messages of Celery into jobs")
        cli.add_bridge_arguments(bridge)
        schedule = self._add_command(
            commands, "celery-schedule", celery_schedule, "print a schedule of Celery, or its rows, as code"
        )
        cli.add_schedule_arguments(schedule, nargs="?")
        import_ = self._add_command(
            commands, "import_django_tasks", self._import, "move waiting tasks of django-tasks-db into the queue"
        )
        import_.add_argument("--watch", action="store_true", help="look for rows every second, until SIGINT or SIGTERM")
        import_.add_argument("--dry-run", action="store_true", help="count the rows, and change nothing")

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
        except (exceptions.ProcrastinateException, ImproperlyConfigured, TypeError, ValueError) as error:
            raise CommandError(quoted_lines(str(error))) from error

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
        if arguments.worker is None:
            healthchecks(app, write=self.stdout.write)
        else:
            cli.healthchecks_command(app, arguments)
