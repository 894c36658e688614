"""How long the event loop of a worker is blocked, by what its heartbeats say."""

from __future__ import annotations

from procrastinate.core.defaults import HEARTBEAT_INTERVAL

_TOLERANCE = 1.0


def seconds_blocked(lag: float | None, heartbeat_interval: float | None) -> float | None:
    """Return how long an event loop is blocked, or ``None`` if it turns or if the worker does not say.

    A heartbeat asks the loop for a turn, and the next heartbeat tells of it. So a loop that turns is one interval late.

    Parameters
    ----------
    lag:
        Seconds from the last turn to the last heartbeat.
    heartbeat_interval:
        Seconds between two heartbeats of the worker.
    """
    longest = 1.5 * (heartbeat_interval or HEARTBEAT_INTERVAL) + _TOLERANCE
    return None if lag is None or lag <= longest else lag
