"""A worker of a Django project: on connections of its own, with Django's looked after around each task."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from django.db import connection, connections, transaction
from django.db.backends.postgresql.base import DatabaseWrapper
from django.test import Client
from django.test.utils import override_settings

from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.adapters.django import conninfo
from procrastinate.adapters.django.conninfo import connector_params
from procrastinate.adapters.django.project_app import create_connector
from procrastinate.adapters.django.settings import get_settings
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob
from procrastinate.job_context import JobContext
from tests.django.shop.models import Order
from tests.django.shop.tasks import fail, ship, ship_async
from tests.django.support import changed_connection

pytestmark = pytest.mark.usefixtures("project")


def _run_worker(**options: Any) -> None:
    app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False, **options)


@pytest.fixture
def probe() -> Iterator[list[Any]]:
    """What the task ``probe`` has seen: Django's connection in its thread, before and after it is used."""
    seen: list[Any] = []

    @app.task(name="probe")
    def probe() -> None:
        seen.append(connection.connection)
        Order.objects.count()
        seen.append(connection.connection)

    yield seen
    del app.tasks["probe"]


def test_the_tasks_of_installed_apps_are_run() -> None:
    """Sync ones in threads, async ones on the event loop, each with Django's ORM."""
    orders = [Order.objects.create(product="book") for _ in range(2)]
    ids = [ship.defer(order_id=orders[0].pk), ship_async.defer(order_id=orders[1].pk), fail.defer()]
    _run_worker(concurrency=3)
    assert [ProcrastinateJob.objects.get(pk=job_id).status for job_id in ids] == ["succeeded", "succeeded", "failed"]
    assert set(Order.objects.values_list("product", flat=True)) == {"shipped"}
    assert set(ProcrastinateEvent.objects.filter(job_id=ids[0]).values_list("type", flat=True)) == {
        "deferred",
        "started",
        "succeeded",
    }


def test_jobs_of_a_view_are_run() -> None:
    """From the request to the changed row."""
    client = Client()
    job_id = client.get("/order/").json()["job"]
    assert client.get("/order/?fail=1").json() == {"job": None}
    _run_worker()
    assert list(ProcrastinateJob.objects.values_list("id", "status")) == [(job_id, "succeeded")]
    assert Order.objects.get().product == "shipped"


async def test_jobs_of_an_async_view_are_deferred() -> None:
    """Through Django's asynchronous test client."""
    from django.test import AsyncClient

    response = await AsyncClient().get("/order-async/")
    assert (await ProcrastinateJob.objects.aget(pk=response.json()["job"])).queue_name == "async"


def test_the_worker_leaves_djangos_connection_alone() -> None:
    """A transaction that is open in this thread goes on."""
    job_id = ship.defer(order_id=1)
    with transaction.atomic():
        Order.objects.create(product="book")
        thread = threading.Thread(target=_run_worker)
        thread.start()
        thread.join()
        assert app.job_manager.get_job_status(job_id).value == "succeeded"
        transaction.set_rollback(True)
    assert not Order.objects.exists()


def test_an_app_on_the_workers_connector() -> None:
    """As a script runs it."""
    job_id = ship.defer(order_id=1)
    worker_app = app.with_connector(app.connector.get_worker_connector())
    worker_app.run_worker(wait=False, install_signal_handlers=False)
    assert ProcrastinateJob.objects.get(pk=job_id).status == "succeeded"


@pytest.mark.parametrize("is_replaced", [False, True])
def test_tasks_keep_their_transactions_on_the_workers_connector(is_replaced: bool) -> None:
    """As tests that were written for 3.x run a worker."""

    def sync_task(context: JobContext) -> None:
        with context.transaction():
            Order.objects.create(product="sync")

    async def async_task(context: JobContext) -> None:
        async with context.transaction():
            await Order.objects.acreate(product="async")

    connector = app.connector.get_worker_connector()
    for name, function in (("in a block", sync_task), ("in an async block", async_task)):
        app.task(function, name=name, pass_context=True).defer()
    try:
        replaced = contextlib.nullcontext(app.with_connector(connector))
        with app.replace_connector(connector) if is_replaced else replaced as worker_app:
            worker_app.run_worker(wait=False, install_signal_handlers=False)
    finally:
        del app.tasks["in a block"], app.tasks["in an async block"]
    assert set(Order.objects.values_list("product", flat=True)) == {"sync", "async"}
    assert set(ProcrastinateJob.objects.values_list("status", flat=True)) == {"succeeded"}


@pytest.mark.parametrize("task_middleware", [None, []])
def test_connections_are_closed_after_each_task(probe: list[Any], task_middleware: Any) -> None:
    """With CONN_MAX_AGE = 0, as after a request; also where the worker has middleware of its own, or an own app."""
    app.tasks["probe"].batch_defer({}, {})
    app.with_connector(app.connector).run_worker(
        wait=False, install_signal_handlers=False, task_middleware=task_middleware
    )
    first_before, first, second_before, second = probe
    assert (first_before, second_before) == (None, None)
    assert first.closed
    assert second.closed


def test_connections_are_kept_for_their_time(probe: list[Any]) -> None:
    """With CONN_MAX_AGE, as between requests."""
    settings = connections.settings["default"]
    settings["CONN_MAX_AGE"] = 60
    try:
        app.tasks["probe"].batch_defer({}, {})
        _run_worker()
    finally:
        settings["CONN_MAX_AGE"] = 0
    first_before, first, second_before, second = probe
    assert first_before is None
    assert first is second_before is second
    first.close()


def test_the_query_log_is_forgotten_after_each_task() -> None:
    """With DEBUG, it would grow for as long as the worker runs."""
    logs: list[int] = []

    @app.task(name="logged", pass_context=True)
    def logged(context: JobContext) -> None:
        logs.append(len(connection.queries_log))
        Order.objects.count()

    with override_settings(DEBUG=True):
        logged.batch_defer({}, {}, {})
        _run_worker()
    del app.tasks["logged"]
    assert logs == [0, 0, 0]


def test_a_task_that_defers_joins_its_own_transaction() -> None:
    """The app of the task is the project's, on Django's connection."""

    @app.task(name="outer")
    def outer() -> None:
        with transaction.atomic():
            ship.defer(order_id=1)
            transaction.set_rollback(True)
        ship.defer(order_id=2)

    outer.defer()
    _run_worker()
    del app.tasks["outer"]
    assert [job.args for job in ProcrastinateJob.objects.filter(task_name=ship.name)] == [{"order_id": 2}]


def test_worker_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """PROCRASTINATE_WORKER_DEFAULTS, unless the call says otherwise."""
    monkeypatch.setattr(app, "worker_defaults", {"delete_jobs": "always", "wait": False})
    ship.defer(order_id=1)
    app.run_worker(install_signal_handlers=False)
    assert not ProcrastinateJob.objects.exists()


def test_the_worker_connects_as_django_does() -> None:
    """With everything in OPTIONS that is psycopg's, and nothing that is Django's."""
    options = {
        "application_name": "shop",
        "pool": {"min_size": 1},
        "isolation_level": 3,
        "assume_role": "postgres",
        "options": "-c search_path=queue,public",
        "server_side_binding": True,
    }
    with changed_connection(OPTIONS=options, PASSWORD="secret", PORT=""):
        params = connector_params("default")
        connector = app.connector.get_worker_connector()
    assert params["options"] == "-c search_path=queue,public -c role=postgres"
    assert (params["application_name"], params["password"]) == ("shop", "secret")
    assert not params.keys() & {"pool", "isolation_level", "assume_role", "server_side_binding", "context"}
    assert isinstance(connector, WorkerConnector)
    assert "secret" not in repr(connector)


def test_the_workers_connection_is_as_its_options_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked on the connection itself. The parameters are asked for in a thread, whose connections are its own."""

    def settings(connection: sa.Connection) -> tuple[str, str, str]:
        names = ("search_path", "role", "application_name")
        return tuple(connection.scalar(sa.text(f"SELECT current_setting('{name}')")) for name in names)

    async def ask() -> tuple[str, str, str]:
        await connector.open_async()
        try:
            return await connector.run_async(settings)
        finally:
            await connector.close_async()

    options = {"options": "-c search_path=queue,public", "assume_role": "postgres", "application_name": "shop"}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    connector = app.connector.get_worker_connector()
    assert asyncio.run(ask()) == ("queue,public", "postgres", "shop")


def test_the_connection_that_listens_may_lead_elsewhere() -> None:
    """Past a pooler, by a setting; the others are as Django's."""
    listens = (
        "SELECT application_name FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
    )
    names: list[str] = []

    @app.task(name="look who listens", pass_context=True)
    def look_who_listens(context: JobContext) -> None:
        while not names and not context.should_abort():
            with connection.cursor() as cursor:
                cursor.execute(listens)
                names.extend(name for (name,) in cursor.fetchall())
            time.sleep(0.01)

    settings = {"LISTEN_CONNECT_ARGS": {"application_name": "past the pooler"}}
    try:
        with override_settings(PROCRASTINATE=settings):
            connector = create_connector(get_settings())
        look_who_listens.defer()
        with app.replace_connector(connector) as replaced:
            replaced.run_worker(wait=False, install_signal_handlers=False)
    finally:
        del app.tasks["look who listens"]
    assert names == ["past the pooler"]


def test_options_that_only_the_backend_knows_are_left_out_and_named_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def get_connection_params(self: Any) -> dict[str, Any]:
        return {**original(self), "MAX_CONNS": 4, "vault_token": "secret"}

    original = DatabaseWrapper.get_connection_params
    monkeypatch.setattr(DatabaseWrapper, "get_connection_params", get_connection_params)
    caplog.set_level(logging.INFO, "procrastinate")
    conninfo._log_left_out.cache_clear()
    params = connector_params("default")
    assert not {"MAX_CONNS", "vault_token"} & params.keys()
    connector_params("default")
    [record] = [record for record in caplog.records if getattr(record, "action", "") == "options_left_out"]
    assert "MAX_CONNS, vault_token" in record.getMessage()
    assert "secret" not in record.getMessage()


def test_the_backend_gives_each_connection_of_a_worker_its_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that lives for minutes stands in the name of the application here, where the server shows it."""
    numbers = itertools.count(1)
    original = DatabaseWrapper.get_connection_params

    def get_connection_params(self: Any) -> dict[str, Any]:
        return {**original(self), "application_name": f"token-{next(numbers)}"}

    def name(connection: sa.Connection) -> str:
        told: str = connection.scalar(sa.text("SELECT current_setting('application_name')"))
        return told

    def end(connection: sa.Connection) -> None:
        with contextlib.suppress(sa.exc.DBAPIError):
            connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))

    async def ask_twice() -> list[str]:
        connector = app.connector.get_worker_connector()
        await connector.open_async()
        try:
            names = []
            for _ in range(2):
                names += [await connector.run_async(name), connector.run(name)]
                await connector.run_async(end)
                connector.run(end)
            return names
        finally:
            await connector.close_async()

    monkeypatch.setattr(DatabaseWrapper, "get_connection_params", get_connection_params)
    names = asyncio.run(ask_twice())
    assert len(set(names)) == 4
    assert all(name.startswith("token-") for name in names)
