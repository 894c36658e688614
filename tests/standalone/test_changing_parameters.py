"""Connection parameters that change: a password that lives for minutes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

import procrastinate
from procrastinate import exceptions
from procrastinate.adapters.connections.connect_args import ConnectArgs
from procrastinate.adapters.standalone import SQLAlchemyConnector
from procrastinate.contrib.django import django_connector
from tests.database import libpq_url
from tests.standalone.waiting import wait_until


class Tokens:
    """Gives another token each time. It stands in the name of the application, where the server shows it."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def new(self) -> str:
        """One that was not given before."""
        return f"token-{next(self._numbers)}"


def _by_psycopgs_names(url: str, tokens: Tokens) -> Any:
    return procrastinate.PsycopgConnector(
        conninfo=lambda: libpq_url(url), kwargs=lambda: {"application_name": tokens.new()}
    )


def _by_a_hook(url: str, tokens: Tokens) -> Any:
    engine = sa.create_engine(url)

    @sa.event.listens_for(engine, "do_connect")
    def bring_token(dialect: Any, record: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        keywords["application_name"] = tokens.new()

    return SQLAlchemyConnector(engine)


def _by_a_hook_of_an_async_engine(url: str, tokens: Tokens) -> Any:
    engine = create_async_engine(url)

    @sa.event.listens_for(engine.sync_engine, "do_connect")
    def bring_token(dialect: Any, record: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        keywords["application_name"] = tokens.new()

    return SQLAlchemyConnector(engine)


def _for_the_worker_alone(url: str, tokens: Tokens) -> Any:
    def connect_args() -> dict[str, Any]:
        return {"conninfo": libpq_url(url), "application_name": tokens.new()}

    return SQLAlchemyConnector(sa.create_engine(url), worker_connect_args=connect_args)


_WAYS = [_by_psycopgs_names, _by_a_hook, _by_a_hook_of_an_async_engine, _for_the_worker_alone]


@pytest.mark.parametrize("make_connector", _WAYS)
async def test_each_connection_of_a_worker_is_made_with_new_parameters(
    make_connector: Callable[[str, Tokens], Any],
    database_url: str,
    connection: sa.Connection,
    end_connections: Callable[[], int],
) -> None:
    app = procrastinate.App(connector=make_connector(database_url, Tokens()))
    seen = sa.text(
        "SELECT application_name FROM pg_stat_activity "
        "WHERE application_name LIKE 'token-%' AND datname = current_database()"
    )

    def in_use() -> list[str]:
        return list(connection.execute(seen).scalars())

    async with app.open_async():
        worker = asyncio.create_task(app.run_worker_async(install_signal_handlers=False))
        # One of the event loop, one of the heartbeat, one that listens.
        await asyncio.to_thread(wait_until, lambda: len(in_use()) >= 3, "the worker's connections")
        before = in_use()
        end_connections()
        await asyncio.to_thread(wait_until, lambda: len(set(in_use()) - set(before)) >= 2, "new connections")
        assert not set(in_use()) & set(before)
        worker.cancel()
        await asyncio.wait([worker])


def test_a_function_that_raises_is_asked_again_for_the_next_connection(database_url: str) -> None:
    answers = iter([RuntimeError("secret"), libpq_url(database_url)])

    def ask() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=ask))
    with app.open():
        with pytest.raises(exceptions.DatabaseUnavailable, match="RuntimeError") as caught:
            app.job_manager.check_connection()
        assert "secret" not in str(caught.value)
        assert app.job_manager.check_connection()


def test_an_asynchronous_function_is_refused() -> None:
    async def ask() -> str:
        return ""

    arguments = ConnectArgs(ask)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must not be asynchronous"):
        arguments.ask()


def test_a_function_is_not_asked_for_a_repr() -> None:
    def ask() -> str:
        raise AssertionError("asked")

    assert "the database that a function names" in repr(procrastinate.PsycopgConnector(conninfo=ask))
    assert "the database that a function names" in repr(
        procrastinate.PsycopgConnector(conninfo=ask).get_worker_connector()
    )


def test_the_connector_of_a_worker_is_a_psycopg_connector_to_isinstance(database_url: str) -> None:
    standalone = procrastinate.PsycopgConnector(conninfo=libpq_url(database_url)).get_worker_connector()
    in_django = django_connector.DjangoConnector().get_worker_connector()
    assert isinstance(standalone, procrastinate.PsycopgConnector)
    assert isinstance(in_django, procrastinate.PsycopgConnector)
    assert not isinstance(django_connector.DjangoConnector(), procrastinate.PsycopgConnector)


_UNKNOWN = {
    "postgresql://me:secret@host:6543/db?pgbouncer=true": "pgbouncer",
    "postgresql://me:secret@host/db?sslmode=require&connection_limit=1": "connection_limit",
    "postgresql+psycopg://me:secret@host/db?schema=public": "schema",
    "host=here dbname=db pool_size=4": "pool_size",
    "host=here password='a secret=1' dbname=db pool_size=4": "pool_size",
}


@pytest.mark.parametrize(("url", "name"), _UNKNOWN.items())
def test_a_parameter_that_libpq_does_not_know_is_named(url: str, name: str) -> None:
    with pytest.raises(ValueError, match=repr(name)) as caught:
        procrastinate.App(connector=url) if "://" in url else ConnectArgs(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "conninfo",
    [
        "host=here password=a secret=1",
        "postgresql://me@host/db?password=a&secret=1",
        "postgresql://me:a?secret=1@host:port/",
    ],
)
def test_what_may_be_a_part_of_a_password_is_not_named(conninfo: str) -> None:
    with pytest.raises(ValueError, match="cannot be read") as caught:
        ConnectArgs(conninfo)
    assert "secret" not in str(caught.value)
