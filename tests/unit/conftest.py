"""Fixtures of the tests that need no database."""

from __future__ import annotations

import pytest

from procrastinate.app import App
from tests.unit.recording import RecordingConnector


@pytest.fixture
def connector() -> RecordingConnector:
    """A connector that stores nothing."""
    return RecordingConnector()


@pytest.fixture
def app(connector: RecordingConnector) -> App:
    """An app on that connector."""
    return App(connector=connector)
