"""``procrastinate doctor``: everything that is wrong with the installation."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from procrastinate import exceptions
from procrastinate._quoting import quoted
from procrastinate._text.terminal import counted, say
from procrastinate.app import App
from procrastinate.cli.json_output import write_json
from procrastinate.cli.waits import database_awaited
from procrastinate.core.defaults import without_builtin

if TYPE_CHECKING:
    from procrastinate.core.doctor import Diagnosis, Finding

FAULTY = 3
"""Exit status if there is a fault."""
_COLOURS = {"fault": "red", "warning": "yellow", "note": "blue"}
"""The colour for each :class:`~procrastinate.core.doctor.Severity`."""


def add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`doctor_command`."""
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.add_argument("--strict", action="store_true", help="exit with 3 for warnings, too")


def doctor_command(app: App, arguments: argparse.Namespace) -> None:
    """Print everything that is wrong with the installation, one finding a line.

    Raises
    ------
    SystemExit
        With status 3 if there is a fault, or with ``--strict`` a warning.
    """
    app.perform_import_paths()
    diagnosis = _diagnose(app)
    if arguments.json:
        write_json(diagnosis)
    else:
        _print(diagnosis)
    if diagnosis.worst == "fault" or (arguments.strict and diagnosis.worst == "warning"):
        sys.exit(FAULTY)


def _diagnose(app: App) -> Diagnosis:
    from procrastinate.connection_probe import probe_worker_connections
    from procrastinate.core.doctor import Diagnosis

    try:
        with database_awaited(), app.open():
            diagnosis = app.inspect.diagnose(queues=without_builtin(app.queues_of_tasks()))
            more = asyncio.run(probe_worker_connections(app.connector.get_worker_connector()))
    except exceptions.DatabaseUnavailable as error:
        return Diagnosis(now=None, findings=(_unreachable(error),), checks=())
    return diagnosis.joined(*more)


def _unreachable(error: Exception) -> Finding:
    from procrastinate.core.doctor import Finding, Severity

    return Finding(
        code="database-unreachable",
        severity=Severity.FAULT,
        text=str(error),
        advice="Start PostgreSQL, or correct host, port, database, user and password",
    )


def _print(diagnosis: Diagnosis) -> None:
    for finding in diagnosis.findings:
        line = f"{finding.severity:<8}{finding.code}: {finding.text}. {finding.advice}"
        say(quoted(line), colour=_COLOURS[finding.severity])
    for check in diagnosis.checks:
        if check.error is not None:
            say(quoted(f"?       {check.name}: could not be checked ({check.error})"), colour="yellow")
    say(", ".join(_summary(diagnosis)))


def _summary(diagnosis: Diagnosis) -> Iterator[str]:
    yield counted(len(diagnosis.checks), "check")
    for severity in _COLOURS:
        count = sum(finding.severity == severity for finding in diagnosis.findings)
        yield counted(count, severity)
