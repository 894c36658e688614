"""Reasons for which there is no row with an id. A check returns a reason, or ``None``."""

from __future__ import annotations

from procrastinate._quoting import quoted
from procrastinate.core.inspection import catalogue_facts
from procrastinate.core.inspection.case import Case
from procrastinate.core.inspection.explanation_types import Reason, ReasonKind


def never_given_out(case: Case) -> Reason | None:
    """Was the id given out."""
    last = catalogue_facts.read_last_id(case.connection)
    if case.job_id <= last:
        return None
    return Reason(
        code="never-given-out",
        kind=ReasonKind.MISSING,
        text=f"This database has not given out the id {case.job_id}: its last one is {last}",
        advice="Compare the database and the schema (search_path) of the program that defers with those of this one",
    )


def uncommitted(case: Case) -> Reason | None:
    """Is a transaction open that has written jobs."""
    writers = catalogue_facts.find_writers(case.connection)
    if not writers or case.job_id > catalogue_facts.read_last_id(case.connection):
        return None
    return Reason(
        code="uncommitted",
        kind=ReasonKind.MISSING,
        text=f"A transaction that has written jobs is still open: {'; '.join(map(str, writers))}",
        advice="Commit it. A job can be seen, and run, after the commit of the transaction that defers it",
    )


def prepared_transaction(case: Case) -> Reason | None:
    """Is there a prepared transaction."""
    names = catalogue_facts.list_prepared_transactions(case.connection)
    if not names or case.job_id > catalogue_facts.read_last_id(case.connection):
        return None
    return Reason(
        code="prepared-transaction",
        kind=ReasonKind.MISSING,
        text=f"A transaction was prepared and not committed: {', '.join(map(repr, names))}. It may hold the job",
        advice="COMMIT PREPARED or ROLLBACK PREPARED",
    )


def unknown_status(case: Case) -> Reason | None:
    """Has the job a status that this release does not know."""
    if case.unknown_status is None:
        return None
    return Reason(
        code="unknown-status",
        kind=ReasonKind.MISSING,
        text=f"This release does not know the status of the job: {quoted(case.unknown_status)}",
        advice="Ask a later release, or the program that has changed the status",
    )


def rolled_back_or_deleted(case: Case) -> Reason | None:
    """Was the job rolled back or deleted."""
    if case.unknown_status is not None or case.job_id > catalogue_facts.read_last_id(case.connection):
        return None
    return Reason(
        code="rolled-back-or-deleted",
        kind=ReasonKind.MISSING,
        text=(
            "The job was rolled back, or it has ended and was deleted (delete_jobs, retention), or its id was lost to "
            "a taken queueing lock. These cannot be told apart"
        ),
        advice="Look into the log of the program that deferred it, and at the workers' option delete_jobs",
    )
