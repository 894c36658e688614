"""Services that run as long as a worker: heartbeat, listener, abort poller, rescuer. Private."""

from __future__ import annotations
