"""Fixtures of the tests of metrics."""

from __future__ import annotations

from tests.worker.conftest import app, queue, workers

__all__ = ["app", "queue", "workers"]
