"""Settings of a database or a role that a session has without asking: the schema, a program and a worker go on."""

from __future__ import annotations

import datetime

import pytest
import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.app import App
from procrastinate.jobs import Status
from procrastinate.retry import RetryStrategy
from tests.database import libpq_url

SETTINGS = [
    ("check_function_bodies", "off"),
    ("DateStyle", "SQL, DMY"),
    ("DateStyle", "German"),
    ("DateStyle", "Postgres, MDY"),
    ("IntervalStyle", "sql_standard"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "Asia/Shanghai"),
    ("bytea_output", "escape"),
    ("client_min_messages", "error"),
    ("constraint_exclusion", "off"),
    ("default_table_access_method", "heap"),
    ("default_toast_compression", "pglz"),
    ("default_transaction_deferrable", "on"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_isolation", "repeatable read"),
    ("enable_indexscan", "off"),
    ("extra_float_digits", "0"),
    ("from_collapse_limit", "1"),
    ("idle_in_transaction_session_timeout", "20s"),
    ("idle_session_timeout", "300ms"),
    ("jit_above_cost", "0"),
    ("lc_messages", "C"),
    ("lock_timeout", "20s"),
    ("plan_cache_mode", "force_generic_plan"),
    ("quote_all_identifiers", "on"),
    ("row_security", "off"),
    ("search_path", "elsewhere, public"),
    ("standard_conforming_strings", "off"),
    ("statement_timeout", "20s"),
    ("synchronous_commit", "off"),
    ("transform_null_equals", "on"),
    ("xmlbinary", "hex"),
]


def set_default(url: str, name: str, value: str) -> None:
    """Set it for the database: for each session that begins later."""
    database = sa.make_url(url).database
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        quoted = value if name == "search_path" else f"'{value}'"
        connection.exec_driver_sql(f'ALTER DATABASE "{database}" SET {name} = {quoted}')


@pytest.mark.parametrize(("name", "value"), SETTINGS)
async def test_schema_program_and_worker_go_on(empty_database_url: str, name: str, value: str) -> None:
    """Batches with gaps, schedules, locks, retries, results, errors, a history, lists and the deletion."""
    set_default(empty_database_url, name, value)
    app = App(connector=libpq_url(empty_database_url))
    ran: list[int] = []

    @app.task(name="add", store_result=True, retry=RetryStrategy(max_attempts=2))
    async def add(number: int, text: str = "") -> str:
        ran.append(number)
        if ran.count(3) == 1 and number == 3:
            raise ValueError(text)
        return text

    text = "it's a \\ \"quoted\" {NULL} \\' text"
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await app.schema_manager.apply_schema_async()
        await app.schema_manager.check_schema_async()
        assert await app.check_connection_async()
        await add.configure(lock="NULL").batch_defer_async({"number": 1}, {"number": 2, "text": text})
        soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(milliseconds=300)
        await add.configure(schedule_at=soon, queueing_lock="\\").defer_async(number=3, text=text)
        assert await app.configure_task("add", queueing_lock="\\", on_conflict="skip").defer_async(number=4) == 3
        while len(ran) < 4:
            await app.run_worker_async(wait=False, install_signal_handlers=False)
        manager = app.job_manager
        assert sorted(ran) == [1, 2, 3, 3]
        assert [job.lock for job in await manager.list_jobs_async()] == ["NULL", "NULL", None]
        result = await manager.get_result_async(3)
        assert (result.value, [error.message for error in result.errors]) == (text, [text])
        assert result.started_at is not None
        assert result.started_at >= soon - datetime.timedelta(seconds=1)
        (counts,) = await manager.list_queues_async(status=Status.SUCCEEDED.value)
        assert counts["succeeded"] == 3
        await manager.delete_old_jobs(nb_hours=0)
        assert await manager.list_jobs_async() == []


@pytest.mark.parametrize(("name", "value"), [("array_nulls", "off"), ("session_replication_role", "replica")])
async def test_a_worker_names_the_setting_with_which_it_cannot_work(database_url: str, name: str, value: str) -> None:
    set_default(database_url, name, value)
    app = App(connector=libpq_url(database_url))
    async with app.open_async():
        with pytest.raises(exceptions.UnfitSettings, match=f"{name} = {value}.*RESET {name}"):
            await app.run_worker_async(wait=False, install_signal_handlers=False)
        with pytest.raises(exceptions.UnfitSettings):
            await app.schema_manager.check_schema_async()


async def test_a_program_that_may_only_read_is_told_so(database_url: str, empty_database_url: str) -> None:
    """A worker asks for transactions that may write. A program says by itself what it wants."""
    for url in (database_url, empty_database_url):
        set_default(url, "default_transaction_read_only", "on")
    async with App(connector=libpq_url(database_url)).open_async() as app:
        with pytest.raises(exceptions.ConnectorException, match="read-only transaction"):
            await app.configure_task("task").defer_async()
    async with App(connector=libpq_url(empty_database_url)).open_async() as app:
        with pytest.raises(exceptions.ConnectorException, match="read-only transaction"):
            await app.schema_manager.apply_schema_async()
