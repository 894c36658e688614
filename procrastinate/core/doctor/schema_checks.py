"""Checks of the schema. Each yields its findings."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from procrastinate._quoting import identifier
from procrastinate.core.applied_revisions import Applied, read_applied
from procrastinate.core.doctor import schema_facts
from procrastinate.core.doctor.findings import Finding, Severity
from procrastinate.core.doctor.patient import Patient
from procrastinate.core.inspection.examination import NotSeen
from procrastinate.core.missing_rights import list_missing_grants
from procrastinate.core.tables import jobs, metadata, workers

_MIGRATE = "Run `procrastinate schema --apply`, or `manage.py migrate` in Django"


def tables(patient: Patient) -> Iterator[Finding]:
    """Are the tables there."""
    columns = schema_facts.read_columns(patient.connection)
    if jobs.name not in columns:
        elsewhere = schema_facts.list_other_schemas(patient.connection)
        also = f". There is one in the schema {', '.join(elsewhere)}, unseen by this role" if elsewhere else ""
        yield Finding(
            code="schema-missing",
            severity=Severity.FAULT,
            text=f"There is no table {jobs.name}{also}",
            advice="Set search_path, or grant USAGE on the schema" if elsewhere else _MIGRATE,
        )
    elif jobs.c.readiness.name not in columns[jobs.name] or schema_facts.has_trigger_of_3x(patient.connection):
        yield Finding(
            code="schema-of-3x",
            severity=Severity.FAULT,
            text="The tables are those of Procrastinate 3.x, or were upgraded only in part",
            advice=_MIGRATE,
        )


def revision(patient: Patient) -> Iterator[Finding]:
    """Is the schema at the revision of this release."""
    known = patient.revisions
    applied = read_applied(patient.connection)
    if not known or applied is None:
        return
    if applied.source == "procrastinate_alembic_version" and len(applied.names) != 1:
        shown = ", ".join(applied.names) or "nothing"
        yield _not_ours(f"procrastinate_alembic_version names {shown}, and should name one revision")
        return
    for name in applied.names:
        if name in known:
            continue
        if name.startswith("procrastinate_") and name > known[-1]:
            yield Finding(
                code="schema-ahead",
                severity=Severity.NOTE,
                text=f"The schema is at revision {name}, which a newer release than this one has applied",
                advice="Install that release here, too. This release runs on the newer schema",
            )
        else:
            yield _not_ours(f"The database names the revision {name!r}, which no release has")
        return
    newest = applied.names[-1]
    missing = [name for name in known if name not in applied.names and (name > newest or _lists_all(applied))]
    if missing:
        yield Finding(
            code="schema-behind",
            severity=Severity.FAULT,
            text=f"The schema is at revision {newest}, and lacks {', '.join(missing)}",
            advice=_MIGRATE,
        )


def _lists_all(applied: Applied) -> bool:
    return applied.source == "django_migrations"


def _not_ours(text: str) -> Finding:
    return Finding(
        code="schema-not-ours",
        severity=Severity.FAULT,
        text=text,
        advice="Another program wrote to that table. Write the revision that the tables have, or restore a backup",
    )


def columns(patient: Patient) -> Iterator[Finding]:
    """Do the tables have all columns."""
    found = schema_facts.read_columns(patient.connection)
    for table in metadata.sorted_tables:
        has = found.get(table.name, set())
        missing = [column.name for column in table.columns if column.name not in has]
        if missing:
            what = f"lacks the columns {', '.join(missing)}" if has else "is missing"
            yield Finding(
                code="column-missing" if has else "table-missing",
                severity=Severity.FAULT,
                subject=table.name,
                text=f"The table {table.name} {what}",
                advice=_MIGRATE,
            )


def triggers(patient: Patient) -> Iterator[Finding]:
    """Do all triggers fire."""
    fires = schema_facts.read_triggers(patient.connection)
    harm = "Workers are not notified, history is not written, or locks are not handed on"
    for table, names in schema_facts.TRIGGERS.items():
        for name in names:
            if (table, name) not in fires:
                yield Finding(
                    code="trigger-missing",
                    severity=Severity.FAULT,
                    subject=name,
                    text=f"The trigger {name} of {table} is missing. {harm}",
                    advice="Create it as `procrastinate schema --read` shows it",
                )
            elif not fires[table, name]:
                yield Finding(
                    code="trigger-off",
                    severity=Severity.FAULT,
                    subject=name,
                    text=f"The trigger {name} of {table} is disabled. {harm}",
                    advice=f"ALTER TABLE {table} ENABLE TRIGGER {name}",
                )


def foreign_triggers(patient: Patient) -> Iterator[Finding]:
    """Is a trigger of others on a table of the queue."""
    for (table, name), fires in sorted(schema_facts.read_triggers(patient.connection).items()):
        if fires and name not in schema_facts.TRIGGERS.get(table, ()):
            yield Finding(
                code="trigger-foreign",
                severity=Severity.NOTE,
                subject=name,
                text=f"The table {table} has the trigger {name}, which is not one of the queue. "
                "If it raises an error, the database refuses the change, and the jobs concerned wait",
                advice="If jobs wait, look into the workers' logs for job_refused, promotion_refused and "
                "record_outcomes_error",
            )


def indexes(patient: Patient) -> Iterator[Finding]:
    """Are all indexes there, and valid."""
    works = schema_facts.read_indexes(patient.connection)
    for table, name in sorted(_our_indexes() - works.keys()):
        yield Finding(
            code="index-missing",
            severity=Severity.FAULT,
            subject=name,
            text=f"The index {name} of {table} is missing. Statements are slow, or two jobs get the same lock",
            advice="Create it CONCURRENTLY, as `procrastinate schema --read` shows it",
        )
    for (table, name), is_valid in sorted(works.items()):
        if is_valid:
            continue
        is_ours = (table, name) in _our_indexes()
        yield Finding(
            code="index-invalid",
            severity=Severity.FAULT if is_ours else Severity.WARNING,
            subject=name,
            text=f"The index {name} of {table} is invalid. Every write pays for it, and no query uses it",
            advice=f"{'REINDEX' if is_ours else 'DROP'} INDEX CONCURRENTLY {identifier(name)}",
        )


def _our_indexes() -> set[tuple[str, str]]:
    uniques = (
        (table.name, str(constraint.name))
        for table in metadata.sorted_tables
        for constraint in table.constraints
        if isinstance(constraint, sa.UniqueConstraint)
    )
    return {(table.name, str(index.name)) for table in metadata.sorted_tables for index in table.indexes} | {*uniques}


def sequences(patient: Patient) -> Iterator[Finding]:
    """Does each sequence lie ahead of the ids that it has to draw."""
    is_behind = schema_facts.read_sequences(patient.connection)
    for table in (name for name, answer in is_behind.items() if answer):
        yield Finding(
            code="sequence-behind",
            severity=Severity.FAULT,
            subject=table,
            text=f"The table {table} has ids that its sequence has not drawn, as after logical replication or another "
            "copy without sequences. New rows with such an id are refused as duplicates, or lost",
            advice=f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))",  # noqa: S608
        )
    unseen = [name for name, answer in is_behind.items() if answer is None]
    if unseen:
        raise NotSeen(f"this role may not read the sequence or the ids of {', '.join(unseen)}")


def rights(patient: Patient) -> Iterator[Finding]:
    """May this role do what a worker does."""
    grants = list_missing_grants(patient.connection)
    sees_workers = not any(workers.name in grant for grant in grants)
    for grant in grants:
        yield Finding(
            code="right-missing",
            severity=Severity.WARNING if sees_workers and patient.alive else Severity.FAULT,
            text="A worker with this role cannot work, for want of a right",
            advice=grant,
        )


def row_security(patient: Patient) -> Iterator[Finding]:
    """Does this role see all rows."""
    for table in schema_facts.list_filtered_tables(patient.connection):
        yield Finding(
            code="rows-hidden",
            severity=Severity.WARNING,
            subject=table,
            text=f"The table {table} has row-level security, which may hide rows from this role. "
            "A worker does not run jobs that its role does not see, and says nothing",
            advice="Give the role of the workers BYPASSRLS, or a policy that shows it all rows",
        )


CHECKS = (revision, columns, triggers, foreign_triggers, indexes, sequences, rights, row_security)
