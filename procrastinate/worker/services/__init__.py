"""Services that run for the lifetime of a worker: heartbeat, listener, abort poller, rescuer. Private."""

from __future__ import annotations
