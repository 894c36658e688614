"""Commands that wait for the database say so."""

from __future__ import annotations

import contextlib

from procrastinate._long_waits import told_by_thread
from procrastinate._text.logs import get_logger

logger = get_logger(__name__)


def database_awaited() -> contextlib.AbstractContextManager[None]:
    """Log, while the block lasts, that it waits for the database."""
    return told_by_thread(_tell)


def _tell(waited: float) -> None:
    message = "Waiting for the database (%.0f s): it does not answer, or another session has locked a table"
    logger.warning(message, waited, extra={"action": "database_awaited"})
