"""The app of a Django project, in memory."""

from __future__ import annotations

from procrastinate.testing import InMemoryConnector
from tests.django import support

support.set_up()


def test_a_projects_task_is_deferred_and_run_without_a_database() -> None:
    from procrastinate.contrib.django import app
    from tests.django.shop.tasks import fail

    connector = InMemoryConnector()
    with app.replace_connector(connector) as replaced:
        fail.defer()
        replaced.run_worker(wait=False, install_signal_handlers=False)
    assert [job["status"] for job in connector.jobs.values()] == ["failed"]
    assert [event["type"] for event in connector.events[1]] == ["deferred", "started", "failed"]
    assert app.connector is not connector
