"""Sets up what the page assumes: the Django project in the same folder."""

import os

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
django.setup()

from django.db import connection  # noqa: E402
from shop.models import Order  # noqa: E402

from procrastinate.contrib.django import app  # noqa: E402

with connection.schema_editor() as editor:
    editor.create_model(Order)
Order.objects.create()


@app.task
def send_receipt(order_id: int) -> None: ...


def at_the_end() -> None:
    """Check that the page's tasks run."""
    globals()["send_mail"].defer(to="you")
    globals()["charge"].defer(order_id=1)
    app.run_worker(wait=False)
    assert Order.objects.get().state == "paid"
    assert {job.status for job in app.job_manager.list_jobs()} == {"succeeded"}
