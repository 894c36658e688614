"""Fixtures of the tests of workflows: an app, workers, and tasks that note what ran."""

from __future__ import annotations

import pytest

from procrastinate.app import App
from tests.worker.conftest import app as app
from tests.worker.conftest import queue as queue
from tests.worker.conftest import workers as workers
from tests.workflows.tasks import Notes, declare


@pytest.fixture
def tasks(app: App) -> Notes:
    """Tasks of the app, and what they noted."""
    return declare(app)
