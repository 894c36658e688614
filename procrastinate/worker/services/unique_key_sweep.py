"""Delete the unique keys that are free again."""

from __future__ import annotations

import time

from procrastinate import core
from procrastinate.connector import BaseConnector

_SWEEP_INTERVAL = 60.0
"""Seconds between two rounds through the unique keys."""
_PARTS_OF_A_SWEEP = 10
"""Parts of a round in one call, as long as all keys of a part were free."""


class UniqueKeySweep:
    """Rounds through the unique keys, a part at each call."""

    def __init__(self) -> None:
        self._swept_to: int | None = None
        self._swept_at = time.monotonic()

    def go_on(self, connector: BaseConnector) -> None:
        """Delete free unique keys. The next round begins some time after the end of this one.

        Raises
        ------
        ConnectorException
            The database cannot be reached, or refuses the statement.
        """
        if self._swept_to is None and time.monotonic() - self._swept_at < _SWEEP_INTERVAL:
            return
        for _ in range(_PARTS_OF_A_SWEEP):
            sweep = connector.run(core.sweep_unique_keys, after=self._swept_to)
            self._swept_to, self._swept_at = sweep.reached, time.monotonic()
            if self._swept_to is None or sweep.deleted < sweep.seen:
                return
