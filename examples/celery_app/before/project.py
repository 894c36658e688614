"""The Celery app. ``CELERY_BROKER`` is the URL of its broker."""

from __future__ import annotations

import os

from celery import Celery  # type: ignore[import-untyped, unused-ignore]
from celery.schedules import crontab  # type: ignore[import-untyped, unused-ignore]

app = Celery("shop", broker=os.environ.get("CELERY_BROKER", "redis://localhost"))
app.conf.timezone = "Europe/Paris"
app.conf.beat_schedule = {
    "nightly-report": {"task": "shop.report", "schedule": crontab(hour=4, minute=30), "args": ["sales"]},
    "tick": {"task": "shop.report", "schedule": 30.0, "args": ["stock"], "options": {"expires": 20}},
}
app.autodiscover_tasks(["examples.celery_app.before"])
