"""A connector that counts the operations of an app and of its workers."""

from __future__ import annotations

import collections
from typing import Any

from procrastinate.adapters.connections.worker_connector import WorkerConnector


class CountingConnector(WorkerConnector):
    """Counts the operations by name, those of its workers' connectors included."""

    def __init__(self, url: str, count: collections.Counter[str] | None = None) -> None:
        super().__init__(url)
        self._url = url
        self.count: collections.Counter[str] = collections.Counter() if count is None else count

    def get_worker_connector(self) -> WorkerConnector:
        """Return a connector that counts in the same place."""
        return CountingConnector(self._url, self.count)

    async def run_async(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """Count the operation, and run it."""
        self.count[operation.__name__] += 1
        return await super().run_async(operation, *args, **kwargs)
