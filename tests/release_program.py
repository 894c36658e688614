"""Uses an installed procrastinate: defers a job and runs it, and looks for the files that are no Python.

`tests/release.py` copies it to a folder without the repository.
"""

from __future__ import annotations

import importlib.resources
import os
import sys

import procrastinate

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["DATABASE_URL"]))


@app.task
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def run_a_job() -> None:
    """Defer a job, run it, and see that it succeeded."""
    with app.open():
        job_id = add.defer(a=1, b=2)
    app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False)
    with app.open():
        (job,) = app.job_manager.list_jobs(id=job_id)
    assert job.status == "succeeded", job


def look_for_django() -> None:
    """See that Django finds the application, its migrations and its templates."""
    import django
    from django.conf import settings
    from django.db.migrations.loader import MigrationLoader
    from django.template.loader import get_template

    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "procrastinate.contrib.django"],
        DATABASES={},
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    )
    django.setup()
    leaves = MigrationLoader(None).graph.leaf_nodes()
    assert "procrastinate" in {label for label, _ in leaves}, leaves
    get_template("procrastinate/admin/timeline.html")


def look_for_files() -> None:
    """See that what is no Python is installed, too."""
    files = importlib.resources.files("procrastinate")
    for name in ("py.typed", "alembic/script.py.mako", "adapters/django/static/procrastinate/admin.css"):
        assert files.joinpath(name).is_file(), name
    assert "site-packages" in str(files), files


if __name__ == "__main__":
    run_a_job()
    look_for_django()
    look_for_files()
    sys.exit(0)
