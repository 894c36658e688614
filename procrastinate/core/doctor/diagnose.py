"""Make all checks of the doctor. A check that fails, for example for want of a right, is a line of the answer."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence

import sqlalchemy as sa

from procrastinate.core.doctor import schema_checks, server_checks, work_checks
from procrastinate.core.doctor.findings import Diagnosis, DoctorLimits, Examination, Finding, worst_first
from procrastinate.core.doctor.patient import Check, Patient
from procrastinate.core.inspection.bounds import load
from procrastinate.core.inspection.examination import attempt, name_of, reading_only
from procrastinate.core.inspection.records import Queues

_DEFAULT_LIMITS = DoctorLimits()


@load
def diagnose(
    connection: sa.Connection,
    now: datetime.datetime,
    *,
    revisions: Sequence[str] = (),
    queues: Collection[str] = (),
    limits: DoctorLimits = _DEFAULT_LIMITS,
    loaded_queues: Queues | None = None,
) -> Diagnosis:
    """Return everything that is wrong with the installation.

    All statements read. The transaction is read-only while they run, and each has two seconds.

    Parameters
    ----------
    revisions:
        The revisions of the schema that this program knows, oldest first. Without them, revisions are not compared.
    queues:
        The queues that tasks of this program name.
    loaded_queues:
        The jobs of each queue, if the program has just read them.
    """
    patient = Patient(
        connection=connection,
        now=now,
        revisions=tuple(revisions),
        queues=frozenset(queues),
        limits=limits,
        loaded_queues=loaded_queues,
    )
    findings: list[Finding] = []
    with reading_only(connection):
        checks = [_make(patient, check, findings) for check in server_checks.CHECKS]
        checks.append(_make(patient, schema_checks.tables, findings))
        # Without the tables, each other check would say no more than that they are missing.
        if not checks[-1].found:
            checks += [_make(patient, check, findings) for check in (*schema_checks.CHECKS, *work_checks.CHECKS)]
    return Diagnosis(now=now, findings=worst_first(findings), checks=tuple(checks))


def _make(patient: Patient, check: Check, findings: list[Finding]) -> Examination:
    found: list[Finding] = []

    def look() -> None:
        for finding in check(patient):
            found.append(finding)  # one by one: a check that cannot go on keeps what it has found

    _, error = attempt(patient.connection, look)
    findings += found
    codes = tuple(dict.fromkeys(finding.code for finding in found))
    return Examination(name=name_of(check), found=codes, error=error)
