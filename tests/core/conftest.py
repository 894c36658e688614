"""Fixtures of the tests of operations."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tests.conformance.runs import SyncRun


@pytest.fixture
def run(engine: sa.Engine) -> SyncRun:
    """Return a runner that executes each operation in autocommit on a pooled connection."""
    return SyncRun(engine)
