"""Explain why a job does not run: one check of ``all_reasons.py`` after the other.

A check that fails, for example for want of a right, is a line of the answer and does not end it.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import sqlalchemy as sa

from procrastinate.core.inspection import facts
from procrastinate.core.inspection.all_reasons import CHECKS, Check
from procrastinate.core.inspection.bounds import load
from procrastinate.core.inspection.case import Case
from procrastinate.core.inspection.examination import attempt, name_of, reading_only
from procrastinate.core.inspection.explanation_types import CheckResult, Explanation, Reason, ReasonKind
from procrastinate.core.inspection.left_alone import NO_EXCUSES, left_alone


@load
def explain_job(
    connection: sa.Connection, now: datetime.datetime, job_id: int, *, revisions: Sequence[str] = ()
) -> Explanation:
    """Return why a job does not run, and what was excluded.

    All statements read. The transaction is read-only while they run, and each has two seconds.

    Parameters
    ----------
    revisions:
        The revisions of the schema that this program knows, oldest first. Without them, revisions are not compared.
    """
    with reading_only(connection):
        job = facts.read_job(connection, job_id)
        case = Case(connection=connection, now=now, job_id=job_id, job=job, revisions=tuple(revisions))
        state = "missing" if job is None else case.state
        reasons: list[Reason] = []
        results = [_make(case, check, reasons) for check in CHECKS[state]]
        if state == "ready" and {reason.code for reason in reasons} <= NO_EXCUSES:
            faults: list[Reason] = []
            results.append(_make(case, left_alone, faults))
            reasons = faults + reasons
    return Explanation(
        job_id=job_id,
        now=now,
        state=state,
        reasons=tuple(reasons) or (_soon(),),
        checks=tuple(results),
    )


def _make(case: Case, check: Check, reasons: list[Reason]) -> CheckResult:
    reason, error = attempt(case.connection, lambda: check(case))
    if error is not None:
        return CheckResult(name=name_of(check), error=error)
    if reason is not None and reason.code not in {one.code for one in reasons}:
        reasons.append(reason)
    return CheckResult(name=name_of(check), found=None if reason is None else reason.code)


def _soon() -> Reason:
    return Reason(code="soon", kind=ReasonKind.WAITS, text="Nothing stands in the way: a worker takes the job soon")
