"""Database failures that are expected, through every driver."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.core import errors
from tests.database import driver_url

DRIVERS = ["psycopg", "psycopg2", "pg8000"]


@pytest.fixture(params=DRIVERS)
def any_driver(request: pytest.FixtureRequest, database_url: str) -> Iterator[sa.Engine]:
    """An engine on this test's database, for each synchronous driver."""
    engine = sa.create_engine(driver_url(database_url, request.param))
    yield engine
    engine.dispose()


def failure(engine: sa.Engine, *statements: str) -> sa.exc.DBAPIError:
    """The error of the last statement."""
    with pytest.raises(sa.exc.DBAPIError) as caught, engine.begin() as connection:  # noqa: PT012
        for statement in statements:
            connection.exec_driver_sql(statement)
    return caught.value


def test_a_unique_violation_is_recognised(any_driver: sa.Engine) -> None:
    insert = "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock) VALUES ('q', 't', 'l')"
    error = failure(any_driver, insert, insert)
    assert errors.is_unique_violation(error)
    assert not errors.is_passing(error)
    assert isinstance(errors.translate(error), exceptions.UniqueViolation)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM procrastinate_nothing",
        "SELECT nothing FROM procrastinate_jobs",
        "SELECT 'x'::procrastinate_nothing",
        "SELECT procrastinate_nothing()",
    ],
)
def test_a_missing_schema_is_told_to_the_user(any_driver: sa.Engine, statement: str) -> None:
    translated = errors.translate(failure(any_driver, statement))
    assert isinstance(translated, exceptions.SchemaNotApplied)
    assert "procrastinate schema --apply" in str(translated)


def test_a_timeout_passes(any_driver: sa.Engine) -> None:
    error = failure(any_driver, "SET LOCAL statement_timeout = 1", "SELECT pg_sleep(10)")
    assert errors.is_passing(error)
    assert errors.sqlstate(error) == "57014"
    assert "another session may have locked a table" in str(errors.translate(error))


def test_a_killed_connection_passes(any_driver: sa.Engine) -> None:
    error = failure(any_driver, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert errors.is_passing(error)
    assert isinstance(errors.translate(error), exceptions.DatabaseUnavailable)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_that_is_not_there_passes(database_url: str, driver: str) -> None:
    url = sa.make_url(database_url).update_query_dict({"host": "/nonexistent"})
    engine = sa.create_engine(driver_url(url.render_as_string(), driver))
    with pytest.raises((sa.exc.DBAPIError, OSError)) as caught:
        engine.connect()
    assert errors.is_passing(caught.value)
    assert isinstance(errors.translate(caught.value), exceptions.DatabaseUnavailable)


def test_the_message_is_the_servers_own(any_driver: sa.Engine) -> None:
    """SQLAlchemy's would repeat the statement, and with it the arguments of jobs."""
    message = str(errors.translate(failure(any_driver, "SELECT 1/0")))
    assert "division by zero" in message
    assert "SELECT" not in message


_REFUSES = (
    "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'under audit'; END $$",
    "CREATE TRIGGER audit BEFORE INSERT ON procrastinate_{table} FOR EACH ROW EXECUTE FUNCTION audit()",
    "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')",
)


REFUSING = {
    "check": "ALTER TABLE procrastinate_jobs ADD CONSTRAINT never CHECK (priority < 5)",
    "key": "CREATE UNIQUE INDEX never ON procrastinate_jobs ((args->>'password'))",
    "null": "ALTER TABLE procrastinate_jobs ALTER COLUMN lock SET NOT NULL",
}


@pytest.mark.parametrize("refusing", REFUSING.values(), ids=REFUSING)
def test_the_message_of_a_refused_row_shows_no_argument(any_driver: sa.Engine, refusing: str) -> None:
    """Workers log it."""
    insert = """
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, args)
        VALUES ('q', 't', 5, '{"password": "it''s \\"secret\\""}')
    """
    error = failure(any_driver, refusing, insert, insert)
    assert "secret" in str(error.orig)
    translated = str(errors.translate(error))
    assert "secret" not in translated
    assert "DETAIL" not in translated
    assert "never" in translated or "null value" in translated


@pytest.mark.parametrize("table", ["jobs", "events"])
def test_the_message_names_the_users_function_and_the_table(any_driver: sa.Engine, table: str) -> None:
    error = errors.translate(failure(any_driver, *(one.format(table=table) for one in _REFUSES)))
    assert "under audit" in str(error)
    assert f"(raised by the function audit, called by a change of procrastinate_{table})" in str(error)


def test_a_statement_of_our_triggers_is_no_function_of_the_user(any_driver: sa.Engine) -> None:
    constraint = "ALTER TABLE procrastinate_events ADD CONSTRAINT nothing CHECK (false) NOT VALID"
    error = failure(any_driver, constraint, _REFUSES[2])
    assert errors.is_row_refused(error)
    assert "raised by" not in str(errors.translate(error))


def test_a_right_that_only_a_trigger_lacks_concerns_the_row(any_driver: sa.Engine) -> None:
    role = f"few_{uuid.uuid4().hex[:8]}"
    rights = (
        f"CREATE ROLE {role}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
        f"REVOKE ALL ON procrastinate_events FROM {role}",
        f"SET LOCAL ROLE {role}",
    )
    assert errors.is_row_refused(failure(any_driver, *rights, _REFUSES[2]))
    assert not errors.is_row_refused(failure(any_driver, *rights, "SELECT FROM procrastinate_events"))


def test_a_statement_timeout_does_not_mean_that_the_database_is_away(any_driver: sa.Engine) -> None:
    error = errors.translate(failure(any_driver, "SET LOCAL statement_timeout = 10", "SELECT pg_sleep(60)"))
    assert type(error) is exceptions.ConnectorException


def test_a_translated_error_stays_what_it_is() -> None:
    error = exceptions.NoResult()
    assert errors.translate(error) is error


def test_an_error_of_the_program_does_not_pass() -> None:
    assert not errors.is_passing(ValueError("x"))
    assert errors.sqlstate(ValueError("x")) is None
