"""Whether a worker can begin: the schema is there, and its role may do what a worker does."""

from __future__ import annotations

import asyncio
import logging
import time

from procrastinate import core, exceptions
from procrastinate.manager import JobManager
from procrastinate.schema import SchemaManager

_LOOK_EVERY = 2.0
_WARN_EVERY = 60.0


async def wait_until_ready(manager: JobManager, *, waits: bool, logger: logging.Logger) -> None:
    """Wait until the schema is applied, with a warning a minute. A worker that is stopped cancels this.

    Parameters
    ----------
    waits:
        Whether to wait at all.

    Raises
    ------
    SchemaNotApplied
        The schema is not there, and this does not wait.
    MissingGrant
        The role lacks a right.
    """
    warned_at: float | None = None
    while True:
        try:
            await SchemaManager(manager.connector).check_schema_async()
        except exceptions.SchemaNotApplied as error:
            if not waits:
                raise
            if warned_at is None or time.monotonic() - warned_at >= _WARN_EVERY:
                warned_at = time.monotonic()
                logger.warning(
                    "The worker waits for the schema. %s",
                    error,
                    extra={"action": "schema_awaited", "reason": str(error)},
                )
            await asyncio.sleep(_LOOK_EVERY)
        else:
            await _check_grants(manager)
            return


async def _check_grants(manager: JobManager) -> None:
    missing = await manager.connector.run_async(core.list_missing_grants)
    if missing:
        raise exceptions.MissingGrant(
            f"The role of the worker lacks rights. As the owner of the tables: {' '.join(missing)}"
        )
