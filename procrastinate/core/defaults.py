"""The numbers that callers of operations need too. They are here so that reading one does not build any statement."""

from __future__ import annotations

KEEP_TICKS_FOR = 86_400.0
"""Minimum age in seconds at which tick rows are deleted."""

PROMOTED_AT_ONCE = 500
"""How many jobs one statement decides on."""

PROMOTED_WITHOUT_TURN = 50
"""The same, if others may promote at the same time. Fewer jobs mean fewer deadlocks between them."""

STALLED_TIMEOUT = 30.0
"""Seconds without a heartbeat after which a worker is dead, unless it or the caller names another number."""

CANCEL_SEEN_WITHIN = 0.05
"""Seconds for which a worker may trust that a workflow is not cancelled. A cancel takes that long."""
