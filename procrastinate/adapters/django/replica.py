"""The connector that reads from the replica of a Django project."""

from __future__ import annotations

import sys

from procrastinate.adapters.django.connector import DjangoConnector
from procrastinate.connector import Operation, P, R


def in_tests() -> bool:
    """Return True if Django or pytest-django has set up its test environment."""
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(utils._TestState, "saved_data")


class ReplicaConnector(DjangoConnector):
    """Reads from a replica, and in tests from the database of the queue.

    Nothing replicates a test database. A mirror, as Django calls it, has a session of its own, which sees nothing of
    the transaction of a test, and tests that do not name the alias may not use it.

    Parameters
    ----------
    alias:
        The key of the replica in ``DATABASES``.
    queue_alias:
        The key of the queue's database.
    """

    def __init__(self, alias: str, queue_alias: str) -> None:
        super().__init__(alias)
        self._of_queue = DjangoConnector(queue_alias)

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on the replica, or in a test on the database of the queue."""
        if in_tests():
            return self._of_queue.run(operation, *args, **kwargs)
        return super().run(operation, *args, **kwargs)
