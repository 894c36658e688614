"""The connector of a Django project, which defers jobs on Django's own connection."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast

import sqlalchemy as sa
from asgiref.sync import sync_to_async
from django import db
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import transaction
from django.db.transaction import TransactionManagementError

from procrastinate.adapters.connections.borrowed_dialect import borrowed_engine
from procrastinate.adapters.connections.conninfo import describe
from procrastinate.adapters.connections.fast_path import DirectConnections
from procrastinate.adapters.connections.psycopg_types import with_own_adapters
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.adapters.django.conninfo import connector_params
from procrastinate.adapters.django.exceptions import BrokenTransaction
from procrastinate.adapters.django.job_transaction import DjangoTransaction
from procrastinate.connector import BaseConnector, Operation, P, R
from procrastinate.core.errors import translate
from procrastinate.core.operation_marks import ATOMIC


class _DjangoConnection:
    """The driver connection that SQLAlchemy sees. Its cursors are Django's.

    Django's query log, ``execute_wrappers``, ``needs_rollback``, its guard against blocking an event loop and its
    reconnection therefore keep working.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def cursor(self) -> Any:
        return _cursor(self._alias)


def _cursor(alias: str) -> Any:
    """Return a Django cursor with psycopg's default adapters for the queue's values."""
    cursor = db.connections[alias].cursor()
    of_driver = cursor.cursor
    encoding = of_driver.connection.info.parameter_status("client_encoding")
    of_driver.__class__ = with_own_adapters(of_driver.__class__, encoding)
    return cursor


class DjangoConnector(BaseConnector):
    """Runs operations on Django's connection to a database.

    Inside ``transaction.atomic()`` a job is part of the transaction and is committed or rolled back with the project's
    rows. Otherwise it is committed at once.

    Parameters
    ----------
    alias:
        The key in ``DATABASES``.
    json_dumps, json_loads:
        As for :class:`~procrastinate.connector.BaseConnector`.
    listen_connect_args:
        Connection parameters that differ for listening connections: a connection string, or arguments of
        :func:`psycopg.connect`.
    """

    def __init__(
        self,
        alias: str = "default",
        json_dumps: Callable[[Any], str] | None = None,
        json_loads: Callable[[str], Any] | None = None,
        *,
        listen_connect_args: Mapping[str, Any] | str | None = None,
    ) -> None:
        super().__init__(json_dumps=json_dumps, json_loads=json_loads)
        self.alias = alias
        self._listen_connect_args = listen_connect_args
        self._connections = DirectConnections(
            borrowed_engine(lambda: _DjangoConnection(alias)), functools.partial(_cursor, alias)
        )

    @property
    def connection(self) -> Any:
        """Django's connection of this thread."""
        return db.connections[self.alias]

    def open(self, pool: Any = None) -> None:
        """Do nothing: Django connects when a connection is needed."""
        if pool is not None:
            raise ImproperlyConfigured("A Django project's app uses Django's own connection, not a pool or an engine")

    async def open_async(self, pool: Any = None) -> None:
        """Do nothing, like :meth:`open`."""
        self.open(pool)

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on Django's connection, in its open transaction if there is one."""
        try:
            self._connect()
            with self._surroundings(operation), self._connections.connection() as connection:
                return operation(connection, *args, **kwargs)
        except TransactionManagementError as error:
            raise BrokenTransaction(str(error)) from error
        except (db.Error, sa.exc.SQLAlchemyError, UnicodeEncodeError) as error:
            raise translate(error) from error

    def _why_no_connection(self) -> str:
        return (
            "The app of a Django project takes no connection=, because it uses Django's own connection: leave "
            "connection= out. Inside transaction.atomic(), the call is part of the transaction"
        )

    def _surroundings(self, operation: Callable[..., Any]) -> contextlib.AbstractContextManager[Any]:
        """Return a context manager for the operation's statements.

        Outside ``atomic()`` Django commits each statement, so an operation of several statements gets a transaction.
        Inside the user's transaction it gets a savepoint. A single statement that fails there aborts the transaction
        and marks it for rollback, as with Django's ORM.
        """
        surround = transaction.atomic if getattr(operation, ATOMIC, False) else transaction.mark_for_rollback_on_error
        return cast("contextlib.AbstractContextManager[Any]", surround(using=self.alias))

    def _connect(self) -> None:
        """Connect before SQLAlchemy does, which would wrap Django's error about an event loop."""
        try:
            self.connection.ensure_connection()
        except SynchronousOnlyOperation as error:
            raise SynchronousOnlyOperation(
                "This runs in an event loop, which must not wait for the database: await the method whose name ends in "
                "_async instead (defer_async for defer), or call this one through sync_to_async"
            ) from error

    async def run_async(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on the connection of Django's asynchronous ORM."""
        return await sync_to_async(self.run, thread_sensitive=True)(operation, *args, **kwargs)

    @contextlib.asynccontextmanager
    async def brief_use(self) -> AsyncIterator[None]:
        """Close the connection of Django's asynchronous ORM at the end, if it was not open before.

        It belongs to a thread that no request cleans up. An open connection keeps a test database from being dropped.
        """
        was_open = await sync_to_async(self._is_connected)()
        try:
            yield
        finally:
            if not was_open:
                await sync_to_async(self._disconnect)()

    def _is_connected(self) -> bool:
        return db.connections[self.alias].connection is not None

    def _disconnect(self) -> None:
        if not db.connections[self.alias].in_atomic_block:
            db.connections[self.alias].close()

    def transaction(self, bind: Any, last: Callable[[], Operation[[], None]]) -> DjangoTransaction:
        """Return ``atomic()`` on Django's connection.

        Raises
        ------
        TypeError
            ``bind`` is not None.
        """
        if bind is not None:
            name = type(bind).__name__
            raise TypeError(f"In a Django project, context.transaction() uses Django's connection and takes no {name}")
        return DjangoTransaction(self.alias, lambda: self.run(last()))

    def describe_database(self) -> str:
        """Return the alias in ``DATABASES``, with its host, port, name and user."""
        return f"{self.alias} ({describe(db.connections[self.alias].get_connection_params())})"

    def get_worker_connector(self) -> WorkerConnector:
        """Return a connector to the same database that does not use Django's connections."""
        return DjangoWorkerConnector(
            functools.partial(connector_params, self.alias),
            listen_connect_args=self._listen_connect_args,
            json_dumps=self.json_dumps,
            json_loads=self.json_loads,
            of_project=self,
        )


class DjangoWorkerConnector(WorkerConnector):
    """The connector of a worker in a Django project.

    As in 3.x, an app may use it while a worker runs, in tests for example. The tasks keep the transactions of Django.
    """

    def __init__(self, *args: Any, of_project: DjangoConnector, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._of_project = of_project

    def transaction(self, bind: Any, last: Callable[[], Operation[[], None]]) -> DjangoTransaction:
        """Return what :meth:`DjangoConnector.transaction` returns."""
        return self._of_project.transaction(bind, last)

    def get_worker_connector(self) -> WorkerConnector:
        """Return another connector of this kind."""
        return self._of_project.get_worker_connector()
