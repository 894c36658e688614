"""Plain statements go to Django's cursor directly, and all others by way of SQLAlchemy, on the same connection."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from django.db import connection as django_connection
from django.db import transaction

from procrastinate import App, core, exceptions
from procrastinate.adapters.connections.fast_path import DirectConnection
from procrastinate.adapters.django.connector import DjangoConnector
from procrastinate.core.operation_marks import plain
from tests.call_counts import counted_calls
from tests.database import new_job

pytestmark = pytest.mark.usefixtures("project")

_PERCENT = sa.literal_column("' of 100%'", type_=sa.Text())
_HALF = plain(sa.select(sa.bindparam("part", type_=sa.Text()).concat(_PERCENT).label("text")))


@pytest.fixture
def connector() -> DjangoConnector:
    return DjangoConnector()


def _keep(connection: sa.Connection) -> sa.Connection:
    return connection


def test_a_plain_statement_is_written_as_sqlalchemy_would(connector: DjangoConnector) -> None:
    """A percent sign, too, which the driver would take for a parameter."""

    def half(connection: sa.Connection) -> list[Any]:
        return [connection.execute(_HALF, {"part": part}).one().text for part in ("50", "%s")]

    assert connector.run(half) == ["50 of 100%", "%s of 100%"]


def test_a_plain_statement_without_parameters_is_sent_directly_too(
    connector: DjangoConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one(connection: sa.Connection) -> Any:
        return connection.execute(plain(sa.select(_PERCENT.label("text")))).one().text

    monkeypatch.delattr(sa.Connection, "execute")
    assert connector.run(one) == " of 100%"


def test_plain_and_other_statements_are_in_one_transaction(connector: DjangoConnector) -> None:
    with transaction.atomic():
        job_id = connector.run(core.defer_job, new_job())
        assert job_id is not None
        assert connector.run(core.get_job_status, job_id) is core.Status.TODO
        transaction.set_rollback(True)
    assert connector.run(core.get_job_status, job_id) is None


def test_a_thread_keeps_its_connection(connector: DjangoConnector) -> None:
    first, second = connector.run(_keep), connector.run(_keep)
    assert first is second
    assert isinstance(first, DirectConnection)


def test_each_thread_has_its_own(connector: DjangoConnector) -> None:
    kept: list[sa.Connection] = []

    def keep() -> None:
        kept.append(connector.run(_keep))
        django_connection.close()

    thread = threading.Thread(target=keep)
    thread.start()
    thread.join()
    assert kept[0] is not connector.run(_keep)


def test_an_operation_inside_of_another_gets_another(connector: DjangoConnector) -> None:
    """As when something that watches Django's queries defers a job."""

    def both(outer: sa.Connection) -> tuple[sa.Connection, sa.Connection]:
        return outer, connector.run(_keep)

    outer, inner = connector.run(both)
    assert outer is not inner


def test_after_an_error_there_is_a_new_one(connector: DjangoConnector) -> None:
    kept = connector.run(_keep)

    def fail(connection: sa.Connection) -> None:
        connection.execute(sa.text("SELECT 1 / 0"))

    with pytest.raises(exceptions.ConnectorException, match="division by zero"):
        connector.run(fail)
    assert connector.run(_keep) is not kept
    assert connector.run(core.defer_job, new_job()) is not None


def test_what_django_watches_sees_the_statement(connector: DjangoConnector) -> None:
    seen: list[str] = []

    def watch(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        seen.append(sql)
        return execute(sql, *rest)

    with django_connection.execute_wrapper(watch):
        connector.run(core.defer_job, new_job())
    (statement,) = seen
    assert statement.startswith("INSERT INTO procrastinate_jobs")


def test_a_defer_passes_few_functions(connector: DjangoConnector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    @App(connector=connector).task(name="add")
    def add(a: int) -> None: ...

    add.defer(a=1)
    with counted_calls() as calls:
        add.defer(a=2)
    assert len(calls.names) <= 18, "\n".join(f"{file} {name}" for file, name in calls.names)
    assert calls.files <= 8, calls
    assert calls.depth <= 6, calls
