"""Checks of the server, its settings and its clock. Each yields its findings."""

from __future__ import annotations

from collections.abc import Iterator

from procrastinate._durations import duration
from procrastinate.core.doctor import server_facts
from procrastinate.core.doctor.findings import Finding, Severity
from procrastinate.core.doctor.patient import Patient
from procrastinate.core.health import clock_difference, list_unfit_settings

_OLDEST_VERSION = 14
_SHORTEST_TIMEOUT = 10.0
"""Seconds. A shorter timeout of all statements ends fetches and deletions on a busy server."""
_TRANSACTION_IDS_LEFT = 300_000_000
_TRANSACTION_IDS = 2_000_000_000


def version(patient: Patient) -> Iterator[Finding]:
    """Is the version of PostgreSQL supported."""
    server = server_facts.read_server(patient.connection)
    if server.version_number < _OLDEST_VERSION * 10_000:
        yield Finding(
            code="server-too-old",
            severity=Severity.FAULT,
            text=f"PostgreSQL {server.version} is older than {_OLDEST_VERSION}, the oldest version that is supported",
            advice=f"Upgrade PostgreSQL to {_OLDEST_VERSION} or newer",
        )


def writes(patient: Patient) -> Iterator[Finding]:
    """Does the database take writes."""
    server = server_facts.read_server(patient.connection)
    if server.is_standby:
        yield Finding(
            code="standby",
            severity=Severity.FAULT,
            text="This database is a standby. No job can be deferred or fetched here",
            advice="Connect to the primary: target_session_attrs=read-write and all hosts in the connection string",
        )
    if server.is_read_only:
        yield Finding(
            code="read-only",
            severity=Severity.WARNING,
            text="default_transaction_read_only is on for this role or database. Only workers write all the same",
            advice="ALTER ROLE or ALTER DATABASE ... RESET default_transaction_read_only",
        )


def settings(patient: Patient) -> Iterator[Finding]:
    """Do the settings of the connection suit."""
    for setting in list_unfit_settings(patient.connection):
        name = setting.partition(" ")[0]
        yield Finding(
            code="setting-unfit",
            severity=Severity.FAULT,
            subject=name,
            text=f"No worker can do its work with {setting}, which the role or the database has",
            advice=f"ALTER ROLE or ALTER DATABASE ... RESET {name}",
        )
    server = server_facts.read_server(patient.connection)
    if server.synchronous_commit == "off":
        yield Finding(
            code="commits-not-kept",
            severity=Severity.WARNING,
            subject="synchronous_commit",
            text="synchronous_commit is off. After a crash of the server the last jobs are lost, or run twice",
            advice="ALTER ROLE or ALTER DATABASE ... RESET synchronous_commit",
        )


def statement_timeout(patient: Patient) -> Iterator[Finding]:
    """Do statements have enough time."""
    # The doctor's own timeout hides that of the session.
    seconds = server_facts.read_reset_timeout(patient.connection)
    if 0 < seconds < _SHORTEST_TIMEOUT:
        yield Finding(
            code="statement-timeout",
            severity=Severity.WARNING,
            subject="statement_timeout",
            text=f"statement_timeout is {duration(seconds)} for this role. Fetches may not end on a busy server",
            advice=f"Give the workers a role of their own with at least {duration(_SHORTEST_TIMEOUT)}",
        )


def clock(patient: Patient) -> Iterator[Finding]:
    """Do the clocks agree."""
    difference = clock_difference(patient.connection)
    if abs(difference) > patient.limits.clock_seconds:
        word = "ahead of" if difference > 0 else "behind"
        yield Finding(
            code="clock-differs",
            severity=Severity.WARNING,
            text=f"The clock of this machine is {duration(abs(difference))} {word} that of the database",
            advice="Set both with NTP. A job that this machine schedules runs too late or too early",
        )


def connections(patient: Patient) -> Iterator[Finding]:
    """Are connections left."""
    server = server_facts.read_server(patient.connection)
    if server.connections_used >= patient.limits.connections_part * server.connections:
        yield Finding(
            code="connections-short",
            severity=Severity.WARNING,
            text=f"{server.connections_used} of {server.connections} connections are in use",
            advice="Close some, raise max_connections, or put a pooler in front",
        )


def transactions(patient: Patient) -> Iterator[Finding]:
    """Does an old transaction keep dead rows."""
    seconds = patient.limits.transaction_seconds
    for one in server_facts.list_old_transactions(patient.connection, seconds):
        application = f" ({one.application!r})" if one.application else ""
        yield Finding(
            code="transaction-old",
            severity=Severity.WARNING,
            subject=str(one.pid),
            text=(
                f"Server process {one.pid}{application} has had a transaction open for {duration(one.seconds)}. "
                "Vacuum cannot remove dead rows that it may see, and fetches walk over them"
            ),
            advice=f"End it with SELECT pg_terminate_backend({one.pid}), and set idle_in_transaction_session_timeout",
        )
    for one in server_facts.list_old_prepared_transactions(patient.connection, seconds):
        yield Finding(
            code="prepared-transaction-old",
            severity=Severity.WARNING,
            subject=one.gid,
            text=f"The transaction {one.gid!r} was prepared {duration(one.seconds)} ago. It keeps dead rows and locks",
            advice="COMMIT PREPARED or ROLLBACK PREPARED",
        )
    for one in server_facts.list_idle_slots(patient.connection):
        yield Finding(
            code="slot-idle",
            severity=Severity.WARNING,
            subject=one.name,
            text=f"Nothing reads the replication slot {one.name!r}, which keeps dead rows",
            advice="Start its reader, or SELECT pg_drop_replication_slot(...)",
        )


def wraparound(patient: Patient) -> Iterator[Finding]:
    """Are transaction ids left."""
    age = server_facts.read_server(patient.connection).transaction_ids
    if age >= patient.limits.transaction_ids:
        is_near = age > _TRANSACTION_IDS - _TRANSACTION_IDS_LEFT
        yield Finding(
            code="wraparound-near",
            severity=Severity.FAULT if is_near else Severity.WARNING,
            text=f"The oldest transaction id of the database is {age:,} old. At two billion PostgreSQL stops writes",
            advice="End old transactions and drop idle replication slots, then VACUUM (FREEZE) the database",
        )


CHECKS = (version, writes, settings, statement_timeout, clock, connections, transactions, wraparound)
