"""Tasks of a Celery project in a Django project: their jobs belong to Django's transaction."""

from __future__ import annotations

import pytest
from django.db import transaction

from procrastinate.contrib.celery import CeleryTasks
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

pytestmark = pytest.mark.usefixtures("project")

seen: list[int] = []
tasks = CeleryTasks(app)


@tasks.task(name="tests.django.test_celery_tasks.note")
def note(number: int) -> None:
    """Note a call."""
    seen.append(number)


def test_a_call_is_rolled_back_or_committed_with_djangos_transaction() -> None:
    seen.clear()
    with transaction.atomic():
        note.delay(1)
        transaction.set_rollback(True)
    assert not ProcrastinateJob.objects.exists()
    with transaction.atomic():
        note.delay_on_commit(2)
    app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False)
    assert seen == [2]
