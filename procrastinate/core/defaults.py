"""Numbers and names that callers of operations need too. They are here so that reading one builds no statement."""

from __future__ import annotations

from collections.abc import Collection

LONGEST = 3_155_760_000.0
"""A hundred years in seconds, which replace infinity. They fit into every clock, event loop and SQL interval."""

LARGEST_COUNT = 2**31 - 1
"""The largest number of an integer column."""

LARGEST_ID = 2**63 - 1
"""The largest number of a bigint column. No row gets it, because no sequence gets so far."""

SMALLEST_PRIORITY, LARGEST_PRIORITY = -(2**31), 2**31 - 1
"""The numbers that an integer column holds."""

KEEP_TICKS_FOR = 86_400.0
"""Minimum age in seconds at which tick rows are deleted."""

CLOCK_TOLERANCE = 60
"""Seconds by which a stored start may lie ahead of the clock, because another statement or transaction began later.

One that lies further ahead was stored while the clock was wrong.
"""

PROMOTED_AT_ONCE = 500
"""How many jobs one statement decides on."""

PROMOTED_WITHOUT_TURN = 50
"""The same, if others may promote at the same time. Fewer jobs mean fewer deadlocks between them."""

HEARTBEAT_INTERVAL = 10.0
"""Seconds between two heartbeats of a worker, unless it names another number."""

STALLED_TIMEOUT = 30.0
"""Seconds without a heartbeat after which a worker is dead, unless it or the caller names another number."""

CANCEL_SEEN_WITHIN = 0.05
"""Seconds for which a worker may trust that a workflow is not cancelled. A cancel takes that long."""

BUILTIN_QUEUE = "builtin"
"""The queue of the built-in tasks. Pages show it while it has jobs."""


def without_builtin(queues: Collection[str] | None) -> list[str]:
    """Return the queues of the program, in order. The queue of the built-in tasks is not one that a user has named."""
    return sorted(name for name in queues or () if name != BUILTIN_QUEUE)
