"""Each driver works through PgBouncer in transaction mode with what docs/database.md says of it, and not without."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy

from procrastinate.adapters.standalone import SQLAlchemyConnector
from procrastinate.app import App
from procrastinate.exceptions import ConnectorException
from tests import pgbouncer
from tests.database import url_text
from tests.documentation.blocks import ROOT, blocks_of
from tests.worker.running import DEADLINE, NEVER, Queue, happens, soon, until

PAGE = "docs/database.md"
SECONDS = 2.0
CALLERS = 8
SYNC = {"psycopg2", "pg8000"}
"""Their asynchronous calls go over psycopg."""
LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^LISTEN' AND datname = current_database()"
APPS = ["django.contrib.contenttypes", "django.contrib.auth", "procrastinate.contrib.django"]
PROGRAM = pathlib.Path(__file__).with_name("django_behind_pgbouncer.py")


@pytest.fixture
def pooled_url(database_url: str) -> Iterator[sa.URL]:
    with (
        tempfile.TemporaryDirectory(prefix="pgbouncer-") as directory,
        pgbouncer.before(database_url, pathlib.Path(directory) / "run") as through,
    ):
        yield sa.make_url(through)


@pytest.mark.parametrize(
    ("driver", "arguments"),
    [
        ("psycopg", {"prepare_threshold": None}),
        ("asyncpg", {"statement_cache_size": 0}),
        ("psycopg2", {}),
    ],
)
def test_a_driver_defers_through_the_pooler_with_the_arguments_of_the_page(
    pooled_url: sa.URL, driver: str, arguments: dict[str, Any]
) -> None:
    shown = (
        f"`connect_args={arguments}`".replace("'", '"')
        if arguments
        else "none for sync code, because psycopg2 prepares nothing"
    )
    assert f"| {driver} | {shown}" in (ROOT / PAGE).read_text()
    assert asyncio.run(_defer_at_once(driver, pooled_url, SECONDS, arguments)) > CALLERS


@pytest.mark.parametrize(
    ("driver", "arguments"),
    [("psycopg", {}), ("asyncpg", {}), ("asyncpg", {"prepared_statement_cache_size": 0}), ("pg8000", {})],
)
def test_without_them_it_fails(pooled_url: sa.URL, driver: str, arguments: dict[str, Any]) -> None:
    # A session that another client has left may have a statement of the same name. It is missing, or it is another one,
    # which refuses the values.
    with pytest.raises(ConnectorException, match=r"prepared statement|invalid input syntax"):
        asyncio.run(_defer_at_once(driver, pooled_url, DEADLINE, arguments))


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+asyncpg", "postgresql+psycopg"])
def test_the_app_of_the_page_defers_through_the_pooler_and_listens_around_it(
    database_url: str, pooled_url: sa.URL, connection: sa.Connection, scheme: str
) -> None:
    """A worker that never polls finds the job. The page has psycopg's scheme for an engine."""
    queue = Queue(connection)
    names = _names_of_the_page(scheme, pooled_url, database_url)

    async def run() -> None:
        async with names["app"].open_async() as app:
            has_run = asyncio.Event()

            @app.task(name="set")
            async def set_event() -> None:
                has_run.set()

            options: Any = {"install_signal_handlers": False, "fetch_job_polling_interval": NEVER}
            worker = asyncio.create_task(app.run_worker_async(**options))
            await until(lambda: queue.sql(LISTENING))
            await set_event.defer_async()
            await happens(has_run)
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await soon(worker)

    asyncio.run(run())
    assert ("engine" in names) is (scheme == "postgresql+psycopg")
    if "engine" in names:
        names["engine"].dispose()


def test_flask_sqlalchemy_prepares_nothing_with_the_options_of_the_page(pooled_url: sa.URL) -> None:
    options = {"connect_args": {"prepare_threshold": None}}
    assert f"set `SQLALCHEMY_ENGINE_OPTIONS` to `{options}`".replace("'", '"') in (ROOT / PAGE).read_text()
    flask_app, db = flask.Flask(__name__), SQLAlchemy()
    flask_app.config["SQLALCHEMY_DATABASE_URI"] = pooled_url.set(drivername="postgresql+psycopg")
    flask_app.config["SQLALCHEMY_ENGINE_OPTIONS"] = options
    db.init_app(flask_app)
    with flask_app.app_context():
        engine = db.engine
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        assert driver.prepare_threshold is None
    engine.dispose()


def test_a_django_project_with_the_settings_of_the_page_does_so_too(
    database_url: str, pooled_url: sa.URL, tmp_path: pathlib.Path
) -> None:
    (block,) = (block for block in blocks_of(PAGE) if block.path == "mysite/settings.py")
    text = block.text
    for shown, here in [
        ('"HOST": "pgbouncer"', f'"HOST": {pooled_url.query["host"]!r}'),
        ('"NAME": "shop"', f'"NAME": {pooled_url.database!r}'),
        ('"USER": "app"', f'"USER": {pooled_url.username!r}'),
        ('{"host": "db", "port": 5432}', repr(_place(database_url))),
    ]:
        assert shown in text
        text = text.replace(shown, here)
    (tmp_path / "of_the_page.py").write_text(f"{text}\nUSE_TZ = True\nINSTALLED_APPS = {APPS}\n")
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "of_the_page", "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    command = [sys.executable, str(PROGRAM), database_url]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=2 * DEADLINE, env=environment)


async def _defer_at_once(driver: str, through: sa.URL, seconds: float, arguments: dict[str, Any]) -> int:
    """Defer and list in several tasks for some seconds, and return how often."""
    url = through.set(drivername=f"postgresql+{driver}")
    if driver == "pg8000":
        url = url.set(query={"unix_sock": f"{url.query['host']}/.s.PGSQL.{url.query['port']}"})
    app = App(connector=SQLAlchemyConnector(url_text(url), connect_args=arguments))
    if driver in SYNC:
        return _defer_in_threads(app, seconds)
    task = app.configure_task("any", allow_unknown=True)
    end, count = time.monotonic() + seconds, 0

    async def call(number: int) -> None:
        nonlocal count, end
        try:
            while time.monotonic() < end:
                count += 1
                await task.defer_async(number=number)
                await task.batch_defer_async({"number": 1}, {"number": 2})
                await app.job_manager.list_jobs_async(queue="none", status="todo")
                await app.job_manager.list_queues_async(queue="none")
        finally:
            end = 0.0  # an error ends the others

    async with app.open_async():
        outcomes = await asyncio.gather(*map(call, range(CALLERS)), return_exceptions=True)
    for error in filter(None, outcomes):
        raise error
    return count


def _defer_in_threads(app: App, seconds: float) -> int:
    task = app.configure_task("any", allow_unknown=True)
    end = time.monotonic() + seconds

    def call(number: int) -> int:
        nonlocal end
        count = 0
        try:
            while time.monotonic() < end:
                count += 1
                task.defer(number=number)
                task.batch_defer({"number": 1}, {"number": 2})
                app.job_manager.list_jobs(queue="none", status="todo")
                app.job_manager.list_queues(queue="none")
        finally:
            end = 0.0
        return count

    with app.open(), ThreadPoolExecutor(CALLERS) as pool:
        return sum(pool.map(call, range(CALLERS)))


def _names_of_the_page(scheme: str, through: sa.URL, around: str) -> dict[str, Any]:
    """Run the example with this scheme, and return its names."""
    pooled, direct = f"{scheme}://app@pgbouncer:6432/shop", "host=db port=5432"
    (text,) = (block.text for block in blocks_of(PAGE) if f'"{pooled}"' in block.text)
    assert direct in text
    text = text.replace(pooled, url_text(through.set(drivername=scheme)))
    text = text.replace(direct, " ".join(f"{name}={value}" for name, value in _place(around).items()))
    names: dict[str, Any] = {}
    exec(compile(text, PAGE, "exec"), names)
    return names


def _place(database_url: str) -> dict[str, Any]:
    url = sa.make_url(database_url)
    return {"host": url.query.get("host") or url.host, "port": url.port or 5432}
