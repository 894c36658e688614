"""The ``procrastinate`` command. Its sub-commands are functions, which the Django command uses, too.

The first use of such a function imports its module.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from procrastinate.cli.main import cli, main

if TYPE_CHECKING:
    from procrastinate.cli.bulk import add_cancel_arguments, add_retry_arguments, cancel_command, retry_command
    from procrastinate.cli.celery_bridge import add_bridge_arguments, bridge_command
    from procrastinate.cli.celery_schedule import (
        add_schedule_arguments,
        print_declarations,
        read_routes,
        schedule_command,
    )
    from procrastinate.cli.check import add_check_arguments, check_command
    from procrastinate.cli.dashboard import add_dashboard_arguments, dashboard_command
    from procrastinate.cli.defer import add_defer_arguments, defer_command
    from procrastinate.cli.dev import add_dev_arguments, dev_command
    from procrastinate.cli.doctor import add_doctor_arguments, doctor_command
    from procrastinate.cli.healthchecks import add_healthchecks_arguments, healthchecks_command
    from procrastinate.cli.limits import add_limits_arguments, limits_command
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
    "read_routes",
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

_HOMES = {
    "add_bridge_arguments": "celery_bridge",
    "add_cancel_arguments": "bulk",
    "add_check_arguments": "check",
    "add_dashboard_arguments": "dashboard",
    "add_defer_arguments": "defer",
    "add_dev_arguments": "dev",
    "add_doctor_arguments": "doctor",
    "add_healthchecks_arguments": "healthchecks",
    "add_limits_arguments": "limits",
    "add_metrics_arguments": "metrics",
    "add_queues_arguments": "queues",
    "add_retry_arguments": "bulk",
    "add_schedule_arguments": "celery_schedule",
    "add_schema_arguments": "schema",
    "add_shell_arguments": "shell",
    "add_top_arguments": "top",
    "add_unique_arguments": "unique",
    "add_why_arguments": "why",
    "add_worker_arguments": "worker",
    "add_workflow_arguments": "workflow",
    "bridge_command": "celery_bridge",
    "cancel_command": "bulk",
    "check_command": "check",
    "dashboard_command": "dashboard",
    "defer_command": "defer",
    "dev_command": "dev",
    "doctor_command": "doctor",
    "healthchecks_command": "healthchecks",
    "limits_command": "limits",
    "metrics_command": "metrics",
    "print_declarations": "celery_schedule",
    "queues_command": "queues",
    "read_routes": "celery_schedule",
    "retry_command": "bulk",
    "schedule_command": "celery_schedule",
    "schema_command": "schema",
    "shell_command": "shell",
    "top_command": "top",
    "unique_command": "unique",
    "why_command": "why",
    "worker_command": "worker",
    "workflow_command": "workflow",
}
"""The module of each name that is loaded at its first use."""


if not TYPE_CHECKING:  # a type checker would take any name for an attribute

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
