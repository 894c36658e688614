"""The ``procrastinate`` command. Its sub-commands are functions, which the Django command uses, too."""

from __future__ import annotations

from procrastinate.cli.bulk import add_cancel_arguments, add_retry_arguments, cancel_command, retry_command
from procrastinate.cli.celery_bridge import add_bridge_arguments, bridge_command
from procrastinate.cli.celery_schedule import add_schedule_arguments, print_declarations, schedule_command
from procrastinate.cli.check import add_check_arguments, check_command
from procrastinate.cli.dashboard import add_dashboard_arguments, dashboard_command
from procrastinate.cli.defer import add_defer_arguments, defer_command
from procrastinate.cli.dev import add_dev_arguments, dev_command
from procrastinate.cli.doctor import add_doctor_arguments, doctor_command
from procrastinate.cli.healthchecks import add_healthchecks_arguments, healthchecks_command
from procrastinate.cli.limits import add_limits_arguments, limits_command
from procrastinate.cli.main import cli, main
from procrastinate.cli.metrics import add_metrics_arguments, metrics_command
from procrastinate.cli.queues import add_queues_arguments, queues_command
from procrastinate.cli.schema import add_schema_arguments, schema_command
from procrastinate.cli.shell import add_shell_arguments, shell_command
from procrastinate.cli.top import add_top_arguments, top_command
from procrastinate.cli.unique import add_unique_arguments, unique_command
from procrastinate.cli.why import add_why_arguments, why_command
from procrastinate.cli.worker import add_worker_arguments, worker_command
from procrastinate.cli.workflow import add_workflow_arguments, workflow_command

__all__ = [
    "add_bridge_arguments",
    "add_cancel_arguments",
    "add_check_arguments",
    "add_dashboard_arguments",
    "add_defer_arguments",
    "add_dev_arguments",
    "add_doctor_arguments",
    "add_healthchecks_arguments",
    "add_limits_arguments",
    "add_metrics_arguments",
    "add_queues_arguments",
    "add_retry_arguments",
    "add_schedule_arguments",
    "add_schema_arguments",
    "add_shell_arguments",
    "add_top_arguments",
    "add_unique_arguments",
    "add_why_arguments",
    "add_worker_arguments",
    "add_workflow_arguments",
    "bridge_command",
    "cancel_command",
    "check_command",
    "cli",
    "dashboard_command",
    "defer_command",
    "dev_command",
    "doctor_command",
    "healthchecks_command",
    "limits_command",
    "main",
    "metrics_command",
    "print_declarations",
    "queues_command",
    "retry_command",
    "schedule_command",
    "schema_command",
    "shell_command",
    "top_command",
    "unique_command",
    "why_command",
    "worker_command",
    "workflow_command",
]
