"""The check of waiting jobs for ``check --database``: they must fit the code that will run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register

from procrastinate import exceptions
from procrastinate._quoting import quoted
from procrastinate.adapters.django.project_app import app
from procrastinate.adapters.django.table_checks import alias_to_check
from procrastinate.deploy_check import check_waiting_jobs


@register(Tags.database)
def check_jobs(app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Report waiting jobs that do not fit the code, as warnings. Errors would stop ``migrate``, which checks first.

    Tables that are missing or behind, and a database that cannot be reached, are reported by other checks.
    """
    if not app.is_bound or alias_to_check(databases) is None:
        return []
    try:
        problems = check_waiting_jobs(app).problems
    except exceptions.ConnectorException:
        return []
    return [
        Warning(quoted(f"{one.subject}: {one.text}."), hint=quoted(f"{one.advice}."), id="procrastinate.W002")
        for one in problems
    ]
