"""Sets up what the page assumes: the Django project in the same folder, with a table of its own."""

import contextlib
import io
import os
import subprocess
import sys

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
django.setup()

from django.db import connection, transaction  # noqa: E402
from shop.models import Order  # noqa: E402
from shop.tasks import send_receipt  # noqa: E402

from procrastinate.contrib.django import app  # noqa: E402

with connection.schema_editor() as editor:
    editor.create_model(Order)


def at_the_end() -> None:
    """A call is rolled back with its row, and committed with it. The schedule is declared. The Flask program works."""
    with transaction.atomic():
        send_receipt.delay(99)
        transaction.set_rollback(True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        app.run_worker(wait=False)
    receipts = [line for line in printed.getvalue().splitlines() if "receipt" in line]
    assert receipts == ["The receipt of order 1"]
    (periodic,) = app.periodic_registry.periodic_tasks.values()
    assert (periodic.periodic_id, periodic.task.name) == ("nightly-report", "shop.tasks.report")
    _run_at_defer()
    done = _run(sys.executable, "flask_program.py")
    assert sorted(line for line in done.splitlines() if "charges" in line) == [
        "bookshop charges order 1",
        "bookshop charges order 3",
    ]


def _run_at_defer() -> None:
    """The setting that replaces CELERY_TASK_ALWAYS_EAGER runs the job at once."""
    os.environ["RUN_AT_DEFER"] = "1"
    call = "import django; django.setup(); from shop.tasks import send_receipt; send_receipt.delay(5)"
    assert "The receipt of order 5" in _run(sys.executable, "-c", call)
    del os.environ["RUN_AT_DEFER"]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
