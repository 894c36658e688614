"""Exceptions specific to Django projects.

::

    ProcrastinateException
    ├── ReadOnlyModel                a program wrote to a model of the queue
    ├── NotImportable                the tasks of another package cannot be moved into the queue
    ├── DjangoNotReady               the app was used before Django was set up, or its settings are invalid
    └── ConnectorException
        └── BrokenTransaction (TransactionManagementError)
"""

from __future__ import annotations

from typing import Any

from django.db.transaction import TransactionManagementError

from procrastinate import exceptions


class ReadOnlyModel(exceptions.ProcrastinateException):
    """Procrastinate's models are read-only: use the app and its tasks, or set PROCRASTINATE_READONLY_MODELS = False."""


class NotImportable(exceptions.ProcrastinateException):
    """The waiting tasks of another package cannot be moved into the queue. The message says what to change."""


class DjangoNotReady(exceptions.ProcrastinateException):
    """The app was used before Django was ready. Until then it only collects tasks.

    Use it in functions, not during import. A script calls ``django.setup()`` first.
    """

    def __init__(self, message: str | None = None, *args: Any) -> None:
        super().__init__(message or _NOT_READY, *args)


_NOT_READY = (
    "The app was used before Django was ready: until then, it only collects tasks. Defer jobs inside functions, "
    "not during import. In a script, call django.setup() first. List 'procrastinate.contrib.django' in "
    "INSTALLED_APPS before the apps that use it in AppConfig.ready()"
)


class BrokenTransaction(exceptions.ConnectorException, TransactionManagementError):
    """An error occurred in the current transaction: no query can be run until the end of its atomic block."""
