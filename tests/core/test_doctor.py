"""Each finding of the doctor is made on a real database."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.alembic.revisions import known_revisions
from procrastinate.core import missing_rights
from procrastinate.core.doctor import Diagnosis, DoctorLimits, Severity, diagnose
from procrastinate.core.doctor.schema_checks import sequences
from procrastinate.core.doctor.schema_facts import TRIGGERS
from procrastinate.core.errors import translate
from procrastinate.core.inspection.examination import name_of

EXPECTED = {"no-worker", "autovacuum-off", "commits-not-kept"}
"""The findings of a fresh database on the server of the tests."""


def examine(engine: sa.Engine, **options: Any) -> Diagnosis:
    """Return the diagnosis of a database."""
    with engine.begin() as connection:
        return diagnose(connection, revisions=known_revisions(), **options)


def found(engine: sa.Engine, **options: Any) -> dict[str, Severity]:
    """Return the codes of the findings that a fresh database does not have, with their severity."""
    diagnosis = examine(engine, **options)
    assert [check for check in diagnosis.checks if check.error] == []
    return {one.code: one.severity for one in diagnosis.findings if one.code not in EXPECTED}


def register(connection: sa.Connection, **columns: Any) -> int:
    """Add a lively worker by SQL, with these columns."""
    worker_id = core.register_worker(connection)
    values = {"concurrency": 1, "running": 0, "running_ids": [], "queues": [], "state": "running", "listens": True}
    statement = sa.update(core.tables.workers).where(core.tables.workers.c.id == worker_id).values(**values | columns)
    connection.execute(statement)
    return worker_id


def defer(connection: sa.Connection, **columns: str) -> int:
    """Add a job by SQL, with these columns as expressions."""
    values = {"queue_name": "'q'", "task_name": "'t'", **columns}
    statement = (
        f"INSERT INTO procrastinate_jobs ({', '.join(values)}) VALUES ({', '.join(values.values())}) RETURNING id"  # noqa: S608
    )
    return int(connection.exec_driver_sql(statement).scalar_one())


def test_a_fresh_database_without_a_worker(engine: sa.Engine) -> None:
    diagnosis = examine(engine)
    assert {one.code for one in diagnosis.findings} == EXPECTED
    assert diagnosis.worst is Severity.FAULT
    assert all(one.text and one.advice for one in diagnosis.findings)


# The schema


def test_a_database_without_tables_has_one_finding_of_its_schema(empty_database_url: str) -> None:
    engine = sa.create_engine(empty_database_url, poolclass=sa.NullPool)
    assert found(engine) == {"schema-missing": Severity.FAULT}


def test_tables_in_a_schema_that_the_role_does_not_search(engine: sa.Engine, connection: sa.Connection) -> None:
    for name in core.tables.metadata.tables:
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS hidden; ALTER TABLE {name} SET SCHEMA hidden")
    (finding,) = [one for one in examine(engine).findings if one.code == "schema-missing"]
    assert "hidden" in finding.text


def test_tables_of_3x(engine: sa.Engine, connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE procrastinate_jobs DROP COLUMN readiness CASCADE")
    assert found(engine) == {"schema-of-3x": Severity.FAULT}


@pytest.mark.parametrize(
    ("revision", "code", "severity"),
    [
        ("procrastinate_0003", "schema-behind", Severity.FAULT),
        ("procrastinate_9999", "schema-ahead", Severity.NOTE),
        ("1234abcd", "schema-not-ours", Severity.FAULT),
    ],
)
def test_another_revision(
    engine: sa.Engine, connection: sa.Connection, revision: str, code: str, severity: Severity
) -> None:
    connection.exec_driver_sql(f"UPDATE procrastinate_alembic_version SET version_num = '{revision}'")  # noqa: S608
    assert found(engine) == {code: severity}


def test_migrations_of_django_that_were_not_applied(engine: sa.Engine, connection: sa.Connection) -> None:
    connection.exec_driver_sql("DROP TABLE procrastinate_alembic_version")
    connection.exec_driver_sql("CREATE TABLE django_migrations (app text, name text)")
    for number in range(len(known_revisions())):
        row = f"('procrastinate', '{1000 + number}_some_name'), ('procrastinate', '0001_initial')"
        connection.exec_driver_sql(f"INSERT INTO django_migrations VALUES {row}")  # noqa: S608
    assert found(engine) == {}
    connection.exec_driver_sql("DELETE FROM django_migrations WHERE name LIKE '1004%%'")
    (finding,) = [one for one in examine(engine).findings if one.code == "schema-behind"]
    assert "procrastinate_0004" in finding.text


def test_a_column_that_is_missing(engine: sa.Engine, connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE procrastinate_errors DROP COLUMN traceback")
    assert found(engine) == {"column-missing": Severity.FAULT}


def test_a_table_that_is_missing(engine: sa.Engine, connection: sa.Connection) -> None:
    connection.exec_driver_sql("DROP TABLE procrastinate_operations")
    assert found(engine) == {"table-missing": Severity.FAULT}


def test_all_triggers_of_the_newest_schema_are_known(connection: sa.Connection) -> None:
    stored = connection.exec_driver_sql(
        "SELECT tgrelid::regclass::text, tgname::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2"
    )
    assert [tuple(row) for row in stored] == [(table, name) for table, names in TRIGGERS.items() for name in names]


def test_a_trigger_of_a_user(engine: sa.Engine, connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "CREATE TRIGGER audit BEFORE INSERT ON procrastinate_events "
        "EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    )
    (finding,) = [one for one in examine(engine).findings if one.code == "trigger-foreign"]
    assert (finding.severity, finding.subject) == (Severity.NOTE, "audit")
    assert "The table procrastinate_events has the trigger audit" in finding.text


def test_triggers_that_are_off_or_missing(engine: sa.Engine, connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE procrastinate_paused_queues DISABLE TRIGGER USER")
    connection.exec_driver_sql("DROP TRIGGER procrastinate_jobs_updated ON procrastinate_jobs")
    assert found(engine) == {"trigger-off": Severity.FAULT, "trigger-missing": Severity.FAULT}


def test_an_index_that_is_missing(engine: sa.Engine, connection: sa.Connection) -> None:
    connection.exec_driver_sql("DROP INDEX procrastinate_workflows_root_idx")
    (finding,) = [one for one in examine(engine).findings if one.code == "index-missing"]
    assert finding.subject == "procrastinate_workflows_root_idx"


def test_an_index_that_was_not_built_to_its_end(engine: sa.Engine, connection: sa.Connection) -> None:
    defer(connection)
    defer(connection)
    statement = "CREATE UNIQUE INDEX CONCURRENTLY of_a_user ON procrastinate_jobs (task_name)"
    with pytest.raises(sa.exc.IntegrityError):
        connection.exec_driver_sql(statement)
    assert found(engine)["index-invalid"] is Severity.WARNING


def test_the_name_of_an_index_cannot_leave_the_statement_that_drops_it(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    defer(connection)
    defer(connection)
    statement = 'CREATE UNIQUE INDEX CONCURRENTLY "a"" ; DROP TABLE ""b" ON procrastinate_jobs (task_name)'
    with pytest.raises(sa.exc.IntegrityError):
        connection.exec_driver_sql(statement)
    (finding,) = [one for one in examine(engine).findings if one.code == "index-invalid"]
    connection.exec_driver_sql(finding.advice)
    assert "index-invalid" not in found(engine)


@contextlib.contextmanager
def new_role(connection: sa.Connection, name: str) -> Iterator[str]:
    """Yield the name of a role that exists during the block."""
    name = f"{name} {uuid.uuid4().hex[:8]}"
    connection.exec_driver_sql(f'CREATE ROLE "{name}"')
    try:
        yield name
    finally:
        connection.exec_driver_sql(f'RESET ROLE; DROP OWNED BY "{name}"; DROP ROLE "{name}"')


def missing_grants(connection: sa.Connection, role: str) -> list[str]:
    """Return the grants that a role lacks for a worker."""
    connection.exec_driver_sql(f'SET ROLE "{role}"')
    missing = core.list_missing_grants(connection)
    connection.exec_driver_sql("RESET ROLE")
    return missing


def diagnose_as(engine: sa.Engine, role: str) -> Diagnosis:
    """Return what the doctor finds for a role."""
    with engine.begin() as connection:
        connection.exec_driver_sql(f'SET LOCAL ROLE "{role}"')
        return diagnose(connection)


def test_the_grants_that_are_missing_can_be_executed_for_a_role_of_any_name(connection: sa.Connection) -> None:
    with new_role(connection, "The 'worker'") as role:
        connection.exec_driver_sql(" ".join(missing_grants(connection, role)))
        assert missing_grants(connection, role) == []


def test_the_rights_that_a_worker_needs_are_known_for_each_table(engine: sa.Engine, connection: sa.Connection) -> None:
    with new_role(connection, "none") as role:
        missing = missing_grants(connection, role)
    named = {line.split(" ON ")[1].split()[0] for line in missing}
    assert named | {*missing_rights.NEEDED_BY_SOME} == {*core.tables.metadata.tables} - {
        "procrastinate_alembic_version"
    }


def test_a_sequence_that_a_copy_of_the_rows_left_behind(engine: sa.Engine, connection: sa.Connection) -> None:
    """Logical replication copies rows and not sequences, so each defer after a switch to the copy would fail."""
    connection.exec_driver_sql("SET session_replication_role = replica")
    columns = "(id, queue_name, task_name) OVERRIDING SYSTEM VALUE"
    connection.exec_driver_sql(f"INSERT INTO procrastinate_jobs {columns} VALUES (1, 'q', 't'), (2, 'q', 't')")  # noqa: S608
    connection.exec_driver_sql("RESET session_replication_role")
    with pytest.raises(sa.exc.IntegrityError) as refused:
        defer(connection)
    assert "`procrastinate doctor` shows the statement" in str(translate(refused.value))
    (finding,) = [one for one in examine(engine).findings if one.code == "sequence-behind"]
    assert finding.subject == "procrastinate_jobs"
    connection.exec_driver_sql(finding.advice)
    assert defer(connection) == 3
    assert "sequence-behind" not in found(engine)


def examine_sequences(engine: sa.Engine, role: str) -> tuple[list[str], str]:
    """Return the tables whose sequence lies behind in the eyes of a role, and what it does not see."""
    diagnosis = diagnose_as(engine, role)
    (error,) = [check.error for check in diagnosis.checks if check.name == name_of(sequences)]
    return [one.subject for one in diagnosis.findings if one.code == "sequence-behind"], error or ""


def test_a_role_that_may_not_read_a_sequence_is_told_so(engine: sa.Engine, connection: sa.Connection) -> None:
    with new_role(connection, "reader") as role:
        connection.exec_driver_sql(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}"')
        behind, unseen = examine_sequences(engine, role)
        assert behind == []
        assert "procrastinate_jobs" in unseen
        connection.exec_driver_sql(f'GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO "{role}"')
        assert examine_sequences(engine, role) == ([], "")


def test_the_sequences_that_the_role_of_a_worker_sees(engine: sa.Engine, connection: sa.Connection) -> None:
    """A worker only adds errors, and needs no right on operations. The check of the other tables goes on."""
    with new_role(connection, "worker") as role:
        connection.exec_driver_sql(" ".join(missing_grants(connection, role)))
        connection.exec_driver_sql(f'GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO "{role}"')
        job_id = defer(connection)
        connection.exec_driver_sql(f"ALTER TABLE procrastinate_jobs ALTER COLUMN id RESTART WITH {job_id}")
        behind, unseen = examine_sequences(engine, role)
        assert behind == ["procrastinate_jobs"]
        assert "procrastinate_errors" in unseen
        assert "procrastinate_operations" in unseen
        assert "procrastinate_jobs" not in unseen


def test_row_level_security_that_applies_to_this_role(engine: sa.Engine, connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE procrastinate_jobs ENABLE ROW LEVEL SECURITY")
    with new_role(connection, "few") as role:
        connection.exec_driver_sql(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}"')
        hidden = [one.subject for one in diagnose_as(engine, role).findings if one.code == "rows-hidden"]
        assert hidden == ["procrastinate_jobs"]
        assert "rows-hidden" not in found(engine)  # the owner sees all rows


def test_rights_that_are_missing_name_their_grants(engine: sa.Engine, connection: sa.Connection) -> None:
    with new_role(connection, "reader") as role:
        connection.exec_driver_sql(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}"')
        connection.exec_driver_sql(f'GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO "{role}"')
        diagnosis = diagnose_as(engine, role)
        assert any("UPDATE ON procrastinate_jobs" in one.advice for one in diagnosis.findings)
        assert [check for check in diagnosis.checks if check.error] == []


# The server


@pytest.fixture
def setting(engine: sa.Engine, connection: sa.Connection) -> Iterator[Callable[[str, str], sa.Engine]]:
    """Return a function that gives the database a setting, and returns an engine whose sessions have it."""

    def set_(name: str, value: str) -> sa.Engine:
        database = connection.exec_driver_sql("SELECT current_database()").scalar_one()
        connection.exec_driver_sql(f"ALTER DATABASE \"{database}\" SET {name} = '{value}'")
        return sa.create_engine(engine.url, poolclass=sa.NullPool)

    yield set_
    database = connection.exec_driver_sql("SELECT current_database()").scalar_one()
    connection.exec_driver_sql(f'ALTER DATABASE "{database}" RESET ALL')


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("array_nulls", "off", "setting-unfit"),
        ("statement_timeout", "3s", "statement-timeout"),
        ("default_transaction_read_only", "on", "read-only"),
    ],
)
def test_settings_that_harm(setting: Callable[[str, str], sa.Engine], name: str, value: str, code: str) -> None:
    assert code in found(setting(name, value))


def test_commits_that_are_kept(setting: Callable[[str, str], sa.Engine]) -> None:
    for value, is_found in [("off", True), ("on", False)]:
        codes = {one.code for one in examine(setting("synchronous_commit", value)).findings}
        assert ("commits-not-kept" in codes) is is_found


def test_a_transaction_that_is_old(engine: sa.Engine, connection: sa.Connection) -> None:
    with engine.begin() as other:
        other.exec_driver_sql("SELECT 1")
        with engine.connect() as third:
            third.exec_driver_sql("SELECT pg_sleep(0.1)")
        assert "transaction-old" in found(engine, limits=DoctorLimits(transaction_seconds=0.05))


def test_a_transaction_that_was_prepared_and_left(engine: sa.Engine, connection: sa.Connection) -> None:
    defer(connection)
    connection.exec_driver_sql("BEGIN; UPDATE procrastinate_jobs SET priority = 1; PREPARE TRANSACTION 'left'")
    try:
        codes = found(engine, limits=DoctorLimits(transaction_seconds=0))
        assert codes["prepared-transaction-old"] is Severity.WARNING
    finally:
        connection.exec_driver_sql("ROLLBACK PREPARED 'left'")


def test_clocks_connections_and_transaction_ids(engine: sa.Engine) -> None:
    limits = DoctorLimits(clock_seconds=-1, connections_part=0, transaction_ids=0)
    assert found(engine, limits=limits) == {
        "clock-differs": Severity.WARNING,
        "connections-short": Severity.WARNING,
        "wraparound-near": Severity.WARNING,
    }


# Workers and work


def test_a_worker_that_is_silent(engine: sa.Engine, connection: sa.Connection) -> None:
    register(connection, last_heartbeat=sa.text("now() - interval '1 hour'"))
    assert found(engine) == {"worker-silent": Severity.WARNING}


def test_a_silent_worker_of_3x_keeps_its_jobs_for_an_hour(engine: sa.Engine, connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "INSERT INTO procrastinate_workers (id, last_heartbeat) VALUES (5, now() - interval '1 minute')"
    )
    register(connection)
    (finding,) = [one for one in examine(engine).findings if one.code == "worker-silent"]
    assert "Another one takes its jobs back after an hour, because it is of Procrastinate 3.x" in finding.text


def test_workers_in_trouble(engine: sa.Engine, connection: sa.Connection) -> None:
    register(
        connection,
        started_at=sa.text("now() - interval '1 hour'"),
        last_error_code="42501",
        last_error_at=sa.func.now(),
        loop_beat_at=sa.text("now() - interval '1 hour'"),
        lost_threads=1,
        unwritten=2,
        listens=False,
    )
    assert found(engine) == {
        "fetches-fail": Severity.FAULT,
        "loop-blocked": Severity.FAULT,
        "slots-lost": Severity.FAULT,
        "outcomes-unwritten": Severity.FAULT,
        "not-listening": Severity.NOTE,
    }


def test_a_queue_that_no_worker_serves(engine: sa.Engine, connection: sa.Connection) -> None:
    register(connection, queues=["mail"])
    assert found(engine, queues=["mail", "declared"]) == {"queue-unserved": Severity.NOTE}
    defer(connection, queue_name="'mial'")
    findings = [one for one in examine(engine, queues=["declared"]).findings if one.code == "queue-unserved"]
    assert [(one.subject, one.severity) for one in findings] == [
        ("mial", Severity.FAULT),
        ("declared", Severity.NOTE),
    ]


def test_a_task_that_no_worker_of_its_queue_knows(engine: sa.Engine, connection: sa.Connection) -> None:
    core.keep_task_list(connection, hash="mail", tasks=["send"])
    core.keep_task_list(connection, hash="other", tasks=["renamed"])
    register(connection, queues=["mail"], task_list="mail")
    register(connection, queues=["other"], task_list="other")
    first = defer(connection, queue_name="'mail'", task_name="'renamed'")
    defer(connection, queue_name="'mail'", task_name="'renamed'", scheduled_at="now() + interval '1 hour'")
    for queue, task in (("mail", "send"), ("other", "renamed"), ("no worker", "renamed")):
        defer(connection, queue_name=f"'{queue}'", task_name=f"'{task}'")
    (finding,) = [one for one in examine(engine).findings if one.code == "task-unknown"]
    assert (finding.subject, finding.severity) == ("renamed", Severity.FAULT)
    assert f"2 jobs wait for it (first {first})" in finding.text
    assert "1 h" in finding.text
    register(connection, queues=["mail"])
    assert "task-unknown" not in found(engine)


def test_a_queue_that_is_paused(engine: sa.Engine, connection: sa.Connection) -> None:
    core.pause_queue(connection, "the mail", reason="The server is down")
    (finding,) = [one for one in examine(engine).findings if one.code == "queue-paused"]
    assert "The server is down" in finding.text
    assert finding.advice == "`procrastinate queues resume 'the mail'`, or app.queues.resume('the mail')"


def test_a_ready_job_that_a_free_worker_leaves_alone_is_a_fault(engine: sa.Engine, connection: sa.Connection) -> None:
    register(connection)
    defer(connection)
    assert found(engine) == {}
    connection.exec_driver_sql("UPDATE procrastinate_events SET at = now() - interval '1 minute'")
    assert found(engine) == {"jobs-left-alone": Severity.FAULT}
    connection.exec_driver_sql("UPDATE procrastinate_workers SET running = 1")
    assert found(engine) == {}


def test_a_ready_job_of_one_of_many_paused_queues_is_no_fault(engine: sa.Engine, connection: sa.Connection) -> None:
    register(connection)
    names = "SELECT to_char(n, 'FM000') FROM generate_series(0, 110) AS n"
    connection.exec_driver_sql(f"INSERT INTO procrastinate_paused_queues (queue_name) {names}")
    defer(connection, queue_name="'110'")
    connection.exec_driver_sql("UPDATE procrastinate_events SET at = now() - interval '1 minute'")
    assert found(engine) == {"queue-paused": Severity.NOTE}


def test_a_job_that_has_just_been_promoted_is_no_fault(engine: sa.Engine, connection: sa.Connection) -> None:
    defer(connection, scheduled_at="now() - interval '1 hour'")
    connection.exec_driver_sql("UPDATE procrastinate_events SET at = now() - interval '1 hour'")
    register(connection)
    connection.exec_driver_sql("UPDATE procrastinate_jobs SET readiness = 1")
    assert found(engine) == {}
    connection.exec_driver_sql("UPDATE procrastinate_events SET at = now() - interval '1 minute'")
    assert found(engine) == {"jobs-left-alone": Severity.FAULT}


def test_a_worker_that_was_free_before_the_job_was_ready_is_no_fault(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    """The times follow from one another, so it does not matter how long the test takes."""
    register(connection, last_heartbeat=sa.text("now() - interval '25 s'"), stalled_timeout=600)
    defer(connection)
    connection.exec_driver_sql(
        "UPDATE procrastinate_events SET at = last_heartbeat - interval '6 s' FROM procrastinate_workers"
    )
    assert found(engine)["jobs-left-alone"] is Severity.FAULT
    connection.exec_driver_sql(
        "UPDATE procrastinate_workers SET last_heartbeat = at + interval '4 s' FROM procrastinate_events"
    )
    assert found(engine) == {}


def test_running_jobs_without_a_worker(engine: sa.Engine, connection: sa.Connection) -> None:
    defer(connection, status="'doing'", worker_id="7")
    assert found(engine)["jobs-orphaned"] is Severity.FAULT
    register(connection)
    assert found(engine) == {"jobs-orphaned": Severity.WARNING}
    connection.exec_driver_sql("UPDATE procrastinate_jobs SET worker_id = 0")
    assert found(engine) == {"jobs-left-behind": Severity.FAULT}


def test_a_session_that_keeps_the_turn_to_promote(engine: sa.Engine, connection: sa.Connection) -> None:
    with engine.begin() as other:
        key = "(1886547811::bigint << 32) + 'procrastinate_jobs'::regclass::oid::bigint"
        other.exec_driver_sql(f"SELECT pg_advisory_xact_lock({key})")
        connection.exec_driver_sql("SELECT pg_sleep(5.1)")
        assert found(engine)["promoter-hangs"] is Severity.FAULT


def test_dead_rows_that_vacuum_leaves(engine: sa.Engine, connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE procrastinate_jobs SET (autovacuum_enabled = false)")
    connection.exec_driver_sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name) SELECT 'q', 't' FROM generate_series(1, 200)"
    )
    connection.exec_driver_sql("DELETE FROM procrastinate_jobs")
    connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    connection.exec_driver_sql("SELECT 1")
    findings = examine(engine, limits=DoctorLimits(dead_rows=100)).findings
    assert "dead-rows" in {one.code for one in findings if one.subject == "procrastinate_jobs"}
    assert "autovacuum-off" in {one.code for one in findings if one.subject == "procrastinate_jobs"}


def test_a_large_table_whose_ended_jobs_stay(engine: sa.Engine, connection: sa.Connection) -> None:
    defer(connection, status="'succeeded'", finished_at="now() - interval '100 days'")
    assert found(engine, limits=DoctorLimits(large_table_rows=0)) == {"history-grows": Severity.WARNING}
    assert found(engine) == {}


# The answer as a whole


def test_a_check_that_fails_is_a_line_and_not_the_end(engine: sa.Engine, connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE procrastinate_paused_queues RENAME TO elsewhere")
    diagnosis = examine(engine)
    assert {"table-missing", "no-worker"} <= {one.code for one in diagnosis.findings}
    assert "Is a queue paused" in {check.name for check in diagnosis.checks if check.error}


def test_names_of_rows_are_quoted(engine: sa.Engine, connection: sa.Connection) -> None:
    core.pause_queue(connection, "a\nb\x1b[31m")
    (finding,) = [one for one in examine(engine).findings if one.code == "queue-paused"]
    assert "\x1b" not in finding.text + finding.advice
    assert "\n" not in finding.text + finding.advice


def test_the_doctor_only_reads(engine: sa.Engine) -> None:
    seen: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
    examine(engine)
    assert {statement.split()[0].upper() for statement in seen} <= {"SELECT", "SAVEPOINT", "ROLLBACK", "WITH"}
