"""Queries of the user's own through a connector, on every driver."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate import exceptions
from procrastinate.adapters.standalone import SQLAlchemyConnector
from procrastinate.connector import BaseConnector
from procrastinate.schema import SchemaManager
from tests import database

SYNC = ("psycopg", "psycopg2", "pg8000")
ASYNC = ("psycopg", "asyncpg", "psycopg2")


@pytest.fixture(params=SYNC)
def connector(request: pytest.FixtureRequest, database_url: str) -> Any:
    connector = SQLAlchemyConnector(database.driver_url(database_url, request.param))
    connector.open()
    yield connector
    connector.close()


@pytest.fixture(params=ASYNC)
async def async_connector(request: pytest.FixtureRequest, database_url: str) -> Any:
    connector = SQLAlchemyConnector(database.driver_url(database_url, request.param))
    await connector.open_async()
    yield connector
    await connector.close_async()


def test_a_statement_is_executed_and_committed(connector: BaseConnector, connection: sa.Connection) -> None:
    connector.execute_query("CREATE TABLE mine (a int, b text)")
    connector.execute_query("INSERT INTO mine VALUES (%(a)s, %(b)s)", a=1, b="x:y %(c)s")
    assert connection.exec_driver_sql("SELECT * FROM mine").all() == [(1, "x:y %(c)s")]


def test_rows_are_dicts(connector: BaseConnector) -> None:
    query = "SELECT n, n::text || '%%' AS text FROM generate_series(1, %(last)s::int) AS n WHERE n <> %(not)s::int"
    assert connector.execute_query_all(query, last=3, **{"not": 2}) == [
        {"n": 1, "text": "1%"},
        {"n": 3, "text": "3%"},
    ]
    assert connector.execute_query_one(query="SELECT 1 AS a, 2 AS b") == {"a": 1, "b": 2}


def test_without_a_row_there_is_no_result(connector: BaseConnector) -> None:
    with pytest.raises(exceptions.NoResult):
        connector.execute_query_one("SELECT 1 WHERE false")
    assert connector.execute_query_all("SELECT 1 WHERE false") == []


def test_a_dict_becomes_json(database_url: str) -> None:
    connector = procrastinate.SyncPsycopgConnector(conninfo=database.libpq_url(database_url))
    connector.open()
    row = connector.execute_query_one("SELECT %(a)s::jsonb AS a, %(b)s = ANY(%(c)s) AS b", a={"k": [1]}, b=2, c=[1, 2])
    connector.close()
    assert row == {"a": {"k": [1]}, "b": True}


def test_errors_are_those_of_every_operation(connector: BaseConnector) -> None:
    with pytest.raises(exceptions.ConnectorException):
        connector.execute_query("SELECT nothing")
    with pytest.raises(exceptions.ConnectorException, match=r"%\(a\)s"):
        connector.execute_query("SELECT %(a)s")


def test_a_violated_constraint_is_named(connector: BaseConnector) -> None:
    connector.execute_query("CREATE TABLE mine (a int CONSTRAINT mine_a UNIQUE)")
    with pytest.raises(exceptions.UniqueViolation) as raised:
        connector.execute_query("INSERT INTO mine VALUES (1), (1)")
    assert raised.value.constraint_name == "mine_a"


async def test_from_asynchronous_code(async_connector: BaseConnector) -> None:
    await async_connector.execute_query_async("CREATE TABLE mine (a int CONSTRAINT mine_a UNIQUE)")
    await async_connector.execute_query_async("INSERT INTO mine VALUES (%(a)s)", a=1)
    assert await async_connector.execute_query_one_async("SELECT a FROM mine") == {"a": 1}
    assert await async_connector.execute_query_all_async("SELECT a FROM mine") == [{"a": 1}]
    with pytest.raises(exceptions.UniqueViolation) as raised:
        await async_connector.execute_query_async("INSERT INTO mine VALUES (1)")
    assert raised.value.constraint_name == "mine_a"


async def test_on_a_connection_of_the_users(database_url: str) -> None:
    url = database.libpq_url(database_url)
    connector = procrastinate.PsycopgConnector(conninfo=url)
    with psycopg.connect(url) as mine:
        mine.execute("CREATE TEMPORARY TABLE mine (a int)")
        assert connector.execute_query_all_with_connection(mine, "SELECT a FROM mine") == []
        assert connector.execute_query_one_with_connection(mine, "SELECT count(*) AS n FROM mine") == {"n": 0}
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute("CREATE TEMPORARY TABLE mine (a int)")
        query = "SELECT count(*) AS n FROM mine WHERE a > %(a)s"
        assert await connector.execute_query_one_async_with_connection(other, query, a=1) == {"n": 0}
        assert await connector.execute_query_all_async_with_connection(other, query, a=1) == [{"n": 0}]


def test_the_schema_may_be_part_of_a_migration_of_the_users(empty_database_url: str) -> None:
    """As ``op.execute(SchemaManager.get_schema())``: it neither begins nor commits."""
    engine = sa.create_engine(empty_database_url)
    with engine.connect() as connection, connection.begin() as transaction:
        connection.execute(sa.text(SchemaManager.get_schema()))
        assert sa.inspect(connection).has_table("procrastinate_jobs")
        transaction.rollback()
    with engine.connect() as connection:
        assert not sa.inspect(connection).has_table("procrastinate_jobs")
    engine.dispose()
