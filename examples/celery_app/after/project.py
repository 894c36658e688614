"""The app. ``DATABASE_URL`` says where the jobs are."""

from __future__ import annotations

import os

from procrastinate import App
from procrastinate.contrib.celery import CeleryTasks

app = App(
    connector=os.environ.get("DATABASE_URL", "postgresql+psycopg://"),
    import_paths=["examples.celery_app.after.tasks", "examples.celery_app.after.schedule"],
)
celery_tasks = CeleryTasks(app)
