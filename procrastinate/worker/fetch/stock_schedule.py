"""When a worker reconciles its jobs with the database."""

from __future__ import annotations

import asyncio
from typing import Protocol

_START_INTERVAL = 1.0
"""Seconds until the first time. A new worker holds nothing yet, and its first jobs come first."""
_STOCK_INTERVAL = 30.0
_FIRST_STOCK_INTERVAL = 0.1
"""Seconds between two times. In doubt the second time comes sooner, because the first one passes over a row that
another session has locked."""


class Stock(Protocol):
    """What reconciles the worker's jobs with the database."""

    async def take_stock(self) -> None:
        """Rescue the jobs that were fetched without the worker's knowledge."""


class StockSchedule:
    """Takes stock soon after the start, now and then, and at once after a doubt."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock
        self._next = asyncio.get_running_loop().time() + _START_INTERVAL
        self._interval = _STOCK_INTERVAL

    @property
    def due_in(self) -> float:
        """Seconds until the next time, at least 0."""
        return max(self._next - asyncio.get_running_loop().time(), 0)

    def doubt(self) -> None:
        """Take stock before the next fetch, and again soon after."""
        self._next = 0.0
        self._interval = _FIRST_STOCK_INTERVAL

    async def take_if_due(self) -> None:
        """Take stock if it is time.

        Raises
        ------
        ConnectorException
            The database cannot be reached. Stock stays due.
        """
        loop = asyncio.get_running_loop()
        if loop.time() >= self._next:
            await self._stock.take_stock()
            self._next = loop.time() + self._interval
            self._interval = min(self._interval * 4, _STOCK_INTERVAL)
