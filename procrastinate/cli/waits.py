"""Commands that wait for the database say so."""

from __future__ import annotations

import contextlib

from procrastinate._durations import duration
from procrastinate._long_waits import told_by_thread
from procrastinate._text.logs import get_logger

logger = get_logger(__name__)


def database_awaited(*, may_work_long: bool = False) -> contextlib.AbstractContextManager[None]:
    """Log, while the block lasts, that it waits for the database.

    Parameters
    ----------
    may_work_long:
        Whether a statement of the block may take long by itself: it builds an index, say.
    """
    works = "it is at work, " if may_work_long else ""

    def tell(waited: float) -> None:
        message = "Waiting for the database (%s): %sit does not answer, or another session has locked a table"
        logger.warning(message, duration(waited), works, extra={"action": "database_awaited"})

    return told_by_thread(tell)
