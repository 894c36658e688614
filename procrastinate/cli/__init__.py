"""The ``procrastinate`` command. Its sub-commands are functions, which the Django command uses, too."""

from __future__ import annotations

from procrastinate.cli.defer import add_defer_arguments, defer_command
from procrastinate.cli.healthchecks import healthchecks_command
from procrastinate.cli.main import cli, main
from procrastinate.cli.schema import add_schema_arguments, schema_command
from procrastinate.cli.shell import add_shell_arguments, shell_command
from procrastinate.cli.worker import add_worker_arguments, worker_command

__all__ = [
    "add_defer_arguments",
    "add_schema_arguments",
    "add_shell_arguments",
    "add_worker_arguments",
    "cli",
    "defer_command",
    "healthchecks_command",
    "main",
    "schema_command",
    "shell_command",
    "worker_command",
]
