"""Every connector of 3.10 defers, also on a connection of the program's. It fails if one does not."""

import asyncio
import os

import psycopg
import sqlalchemy
from plain_app import add, app

import procrastinate
from procrastinate import exceptions
from procrastinate.contrib.aiopg import AiopgConnector
from procrastinate.contrib.psycopg2 import Psycopg2Connector
from procrastinate.contrib.sqlalchemy import SQLAlchemyPsycopg2Connector

DSN = os.environ["DSN"]
SQLALCHEMY_DSN = DSN.replace("postgresql://", "postgresql+psycopg2://")


def are_there(job_ids):
    """Whether another connection sees all of these jobs. It must not see some only."""
    with psycopg.connect(DSN) as connection:
        count = "SELECT count(*) FROM procrastinate_jobs WHERE id = ANY (%s)"
        (number,) = connection.execute(count, [job_ids]).fetchone()
    assert number in (0, len(job_ids)), number
    return number > 0


async def defer_async(**options):
    job_ids = [await add.configure(**options).defer_async(a=1, b=1)]
    return job_ids + await add.configure(**options).batch_defer_async({"a": 1, "b": 2}, {"a": 1, "b": 3})


def defer(**options):
    job_ids = [add.configure(**options).defer(a=1, b=1)]
    return job_ids + add.configure(**options).batch_defer({"a": 1, "b": 2}, {"a": 1, "b": 3})


def refuses_a_taken_queueing_lock(lock, **options):
    add.configure(queueing_lock=lock, **options).defer(a=1, b=1)
    try:
        add.configure(queueing_lock=lock, **options).defer(a=1, b=1)
    except exceptions.AlreadyEnqueued:
        return True
    return False


async def use_async(connector):
    with app.replace_connector(connector):
        async with app.open_async():
            job_ids = await defer_async()
            assert are_there(job_ids)
            await app.run_worker_async(wait=False, install_signal_handlers=False)
            status = await app.job_manager.get_job_status_async(job_ids[0])
            assert status.value == "succeeded", status


async def use_async_connection():
    async with app.open_async(), await psycopg.AsyncConnection.connect(DSN) as connection:
        for end in (connection.rollback, connection.commit):
            job_ids = await defer_async(connection=connection)
            assert not are_there(job_ids)
            await end()
            assert are_there(job_ids) == (end == connection.commit)


def use(connector, connect):
    with app.replace_connector(connector), app.open():
        assert are_there(defer())
        assert refuses_a_taken_queueing_lock(type(connector).__name__)
        if connect is None:
            return
        with connect() as connection:
            for end in (connection.rollback, connection.commit):
                job_ids = defer(connection=connection)
                assert not are_there(job_ids)
                end()
                assert are_there(job_ids) == (end == connection.commit)
            assert refuses_a_taken_queueing_lock("in a transaction", connection=connection)
            connection.rollback()


asyncio.run(use_async(procrastinate.PsycopgConnector(conninfo=DSN)))
asyncio.run(use_async(AiopgConnector(dsn=DSN)))
asyncio.run(use_async_connection())
use(procrastinate.SyncPsycopgConnector(conninfo=DSN), lambda: psycopg.connect(DSN))
use(SQLAlchemyPsycopg2Connector(dsn=SQLALCHEMY_DSN), sqlalchemy.create_engine(SQLALCHEMY_DSN).connect)
use(Psycopg2Connector(dsn=DSN), None)
print("all of it works")
