"""The schedule, as ``procrastinate celery-schedule examples.celery_app.before.project.app`` has printed it."""

from __future__ import annotations

from examples.celery_app.after import tasks as tasks
from examples.celery_app.after.project import app

app.periodic(
    cron="30 4 * * *",
    periodic_id="nightly-report",
    timezone="Europe/Paris",
    task_kwargs={"args": ["sales"]},
)(app.tasks["shop.report"])

app.periodic(
    cron="* * * * * */30",
    periodic_id="tick",
    timezone="Europe/Paris",
    task_kwargs={"args": ["stock"], "expires_in": 20},
)(app.tasks["shop.report"])
