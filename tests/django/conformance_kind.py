"""Django's borrowed connection, as the conformance suite takes it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

P = ParamSpec("P")
R = TypeVar("R")


class DjangoRun:
    """Runs operations with a :class:`DjangoConnector`."""

    def __init__(self) -> None:
        from procrastinate.adapters.django.connector import DjangoConnector

        self._connector = DjangoConnector()

    def __call__(self, operation: Callable[Concatenate[sa.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        return self._connector.run(operation, *args, **kwargs)

    def transaction(self) -> contextlib.AbstractContextManager[Any]:
        from django.db import transaction

        return transaction.atomic()


@contextlib.contextmanager
def opened(database_url: str) -> Iterator[DjangoRun]:
    """On a database of a test."""
    from tests.django import support

    support.set_up()
    with support.using_database(database_url):
        yield DjangoRun()
