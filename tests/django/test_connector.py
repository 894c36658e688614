"""Jobs are deferred on Django's own connection, as a query of the project's own would be run."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import threading
from collections.abc import Callable

import django.db
import pytest
import sqlalchemy as sa
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext, override_settings

from procrastinate import exceptions
from procrastinate.adapters.django.connector import DjangoConnector
from procrastinate.adapters.django.models import ProcrastinateJob
from procrastinate.contrib.django import app
from tests.django.shop.models import Order
from tests.django.shop.tasks import ship, ship_async
from tests.django.support import changed_connection

pytestmark = pytest.mark.usefixtures("project")

NOON = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)


class _Undo(Exception):
    """Leaves an atomic block by rolling it back."""


def _jobs_seen_by_others() -> int:
    """Counted on another connection."""
    counts: list[int] = []

    def count() -> None:
        counts.append(ProcrastinateJob.objects.count())
        connection.close()

    thread = threading.Thread(target=count)
    thread.start()
    thread.join()
    return counts[0]


def test_half_a_character_is_an_error_of_the_database() -> None:
    def ask(connection: sa.Connection) -> None:
        connection.execute(sa.select(sa.literal("\ud800")))

    with pytest.raises(exceptions.ConnectorException):
        app.connector.run(ask)


def test_one_defer_is_one_query() -> None:
    """Outside a transaction, and it shows in Django's query log."""
    ship.defer(order_id=1)
    with CaptureQueriesContext(connection) as queries:
        ship.defer(order_id=1)
    assert [query["sql"].startswith("INSERT INTO procrastinate_jobs") for query in queries] == [True]


def test_one_defer_is_one_query_inside_atomic() -> None:
    """No savepoint either."""
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        ship.configure(queueing_lock="once").defer(order_id=1)
    assert len(queries) == 1


def test_outside_atomic_a_job_is_committed_at_once() -> None:
    """Django is in autocommit."""
    ship.defer(order_id=1)
    assert _jobs_seen_by_others() == 1


def test_a_job_is_committed_with_the_transaction() -> None:
    """Not before, and not without the project's own rows."""
    with transaction.atomic():
        Order.objects.create(product="book")
        ship.defer(order_id=1)
        assert _jobs_seen_by_others() == 0
    assert _jobs_seen_by_others() == 1
    assert Order.objects.count() == 1


def test_a_job_is_rolled_back_with_the_transaction() -> None:
    """Together with the project's own rows."""
    with contextlib.suppress(_Undo), transaction.atomic():
        Order.objects.create(product="book")
        ship.defer(order_id=1)
        ship.batch_defer({"order_id": 1}, {"order_id": 2})
        raise _Undo
    assert ProcrastinateJob.objects.count() == 0
    assert Order.objects.count() == 0


def test_a_job_is_rolled_back_with_an_inner_block() -> None:
    """The outer block keeps its own."""
    with transaction.atomic():
        kept = ship.defer(order_id=1)
        with contextlib.suppress(_Undo), transaction.atomic():
            ship.defer(order_id=2)
            raise _Undo
    assert list(ProcrastinateJob.objects.values_list("id", flat=True)) == [kept]


def test_already_enqueued_leaves_the_transaction_usable() -> None:
    """It is no database error."""
    with transaction.atomic():
        ship.configure(queueing_lock="once").defer(order_id=1)
        with pytest.raises(exceptions.AlreadyEnqueued):
            ship.configure(queueing_lock="once").defer(order_id=2)
        with pytest.raises(exceptions.AlreadyEnqueued):
            ship.configure(queueing_lock="once").batch_defer({"order_id": 2}, {"order_id": 3})
        Order.objects.create(product="book")
    assert Order.objects.count() == 1
    assert ProcrastinateJob.objects.count() == 1


def test_a_batch_is_deferred_wholly_or_not_at_all() -> None:
    """Outside a transaction too, where Django commits each statement."""
    with pytest.raises(exceptions.AlreadyEnqueued):
        ship.configure(queueing_lock="once").batch_defer({"order_id": 2}, {"order_id": 3})
    assert ProcrastinateJob.objects.count() == 0


def test_a_broken_transaction_refuses_jobs_as_it_refuses_queries() -> None:
    """The error is Django's, and one of Procrastinate's."""
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError) as caught:
            ship.defer(order_id=1)
    assert isinstance(caught.value, exceptions.ConnectorException)


def test_a_failed_statement_breaks_the_transaction() -> None:
    """Who catches the error must not commit what PostgreSQL has given up already."""
    with transaction.atomic():
        Order.objects.create(product="book")
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
        with pytest.raises(exceptions.ConnectorException):
            app.job_manager.cancel_job_by_id(1)
        with pytest.raises(TransactionManagementError):
            Order.objects.count()
    assert Order.objects.count() == 0


def test_errors_of_the_database_are_translated() -> None:
    """Django's error is the cause, psycopg's the cause of that."""
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE procrastinate_jobs CASCADE")
    with pytest.raises(exceptions.SchemaNotApplied, match=r"manage\.py migrate") as caught:
        ship.defer(order_id=1)
    assert isinstance(caught.value.__cause__, django.db.ProgrammingError)


def test_a_database_that_is_away_is_named_so() -> None:
    """The connection is Django's, and so is its error."""
    connection.close()
    with changed_connection(HOST="/nowhere"), pytest.raises(exceptions.DatabaseUnavailable):
        ship.defer(order_id=1)


def test_a_lost_connection_is_replaced() -> None:
    """As Django replaces it between requests."""
    with connection.cursor() as cursor, pytest.raises(django.db.OperationalError):
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(exceptions.ConnectorException):
        ship.defer(order_id=1)
    django.db.close_old_connections()
    assert ship.defer(order_id=1) > 0


def test_execute_wrappers_see_the_statement() -> None:
    """Instrumentation and guards work."""
    seen: list[str] = []

    def watch(execute, sql, params, many, context):
        seen.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        ship.defer(order_id=1)
    assert len(seen) == 1


def test_a_synchronous_defer_in_an_event_loop_is_refused() -> None:
    """By Django's own guard, with what to write instead. Wherever the connection is: closed, or open."""

    async def defer() -> None:
        ship.defer(order_id=1)

    for prepare in (connection.close, connection.ensure_connection):
        prepare()
        with pytest.raises(SynchronousOnlyOperation, match="defer_async"):
            asyncio.run(defer())
    assert not ProcrastinateJob.objects.exists()


async def test_asynchronous_defers() -> None:
    """They run where Django's asynchronous ORM runs."""
    job_id = await ship_async.defer_async(order_id=1)
    await ship_async.batch_defer_async({"order_id": 1}, {"order_id": 2})
    job = await ProcrastinateJob.objects.aget(pk=job_id)
    assert (job.queue_name, await ProcrastinateJob.objects.acount()) == ("async", 3)


async def test_jobs_are_managed_asynchronously() -> None:
    """Status, cancel, list."""
    job_id = await ship_async.defer_async(order_id=1)
    assert await app.job_manager.cancel_job_by_id_async(job_id)
    assert (await app.job_manager.get_job_status_async(job_id)).value == "cancelled"
    assert [job.id for job in await app.job_manager.list_jobs_async()] == [job_id]


@pytest.mark.parametrize("use_tz", [True, False])
def test_times_are_read_aware(use_tz: bool) -> None:
    """Whatever loaders Django has on its connection."""
    with override_settings(USE_TZ=use_tz):
        connection.close()
        job_id = ship.configure(schedule_at=NOON).defer(order_id=1)
        (job,) = app.job_manager.list_jobs(id=job_id)
        assert (job.scheduled_at, job.status, job.task_kwargs) == (NOON, "todo", {"order_id": 1})
        assert ProcrastinateJob.objects.get().procrastinate_job == job
    connection.close()


@pytest.mark.parametrize("options", [{"server_side_binding": True}, {"pool": True}, {"prepare_threshold": 0}])
def test_options_of_the_connection(options: dict[str, object]) -> None:
    """However Django's cursors bind and its connections are made."""
    connection.close()
    with changed_connection(OPTIONS=options):
        job_id = ship.configure(lock="a", schedule_at=NOON).defer(order_id=1)
        with transaction.atomic():
            ship.batch_defer({"order_id": 1}, {"order_id": 2})
        assert [job.id for job in app.job_manager.list_jobs(lock="a")] == [job_id]
        if "pool" in options:
            connection.close_pool()


def test_percent_signs_and_braces_are_kept() -> None:
    """In arguments and locks."""
    job_id = ship.configure(lock="100 % {a} %s").defer(order_id="%(x)s")
    (job,) = app.job_manager.list_jobs(id=job_id)
    assert (job.lock, job.task_kwargs) == ("100 % {a} %s", {"order_id": "%(x)s"})


def test_opening_takes_no_pool() -> None:
    """There is nothing to open."""
    connector = DjangoConnector()
    connector.open()
    with pytest.raises(ImproperlyConfigured):
        connector.open(object())


def test_a_connection_of_the_users_is_not_taken() -> None:
    """The job is in Django's transaction as it is."""
    calls: list[Callable[[], object]] = [
        lambda: ship.configure(connection=object()).defer(order_id=1),
        lambda: app.limits.list(connection=object()),
        lambda: app.queues.pause("mail", connection=object()),
        lambda: asyncio.run(app.queues.pause_async("mail", connection=object())),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"takes no connection=.*leave connection= out.*transaction\.atomic\(\)"):
            call()


def test_replace_connector() -> None:
    """For a script that runs a worker in this process."""
    worker_connector = app.connector.get_worker_connector()
    with app.replace_connector(worker_connector) as replaced:
        assert replaced.connector is worker_connector
    assert isinstance(app.connector, DjangoConnector)


def test_a_waiting_job_is_replaced_inside_atomic_with_one_query() -> None:
    first = ship.configure(queueing_lock="ship").defer(order_id=1)
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        assert ship.configure(queueing_lock="ship", on_conflict="replace").defer(order_id=2) == first
    assert len(queries) == 1
    assert ProcrastinateJob.objects.get().args == {"order_id": 2}


def test_a_waiting_job_is_found_inside_atomic_with_one_query() -> None:
    first = ship.configure(queueing_lock="ship").defer(order_id=1)
    skipping = ship.configure(queueing_lock="ship", on_conflict="skip")
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        assert skipping.defer(order_id=2) == first
    assert len(queries) == 1
    with transaction.atomic():
        assert skipping.batch_defer({"order_id": 3}, {"order_id": 4}) == [first, first]
    assert ProcrastinateJob.objects.get().args == {"order_id": 1}
