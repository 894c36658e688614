"""Sets the middleware of an error reporter in the Django project, and runs a task that fails."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

import django

django.setup()

from procrastinate.contrib.django import app  # noqa: E402

reported = []


def report_errors(call_next, context, worker):
    try:
        return call_next()
    except ValueError as error:
        reported.append((context.job.task_name, str(error), worker.worker_name))
        raise


@app.task(name="fail_in_django")
def fail():
    raise ValueError("on purpose")


app.worker_defaults["task_middleware"] = [report_errors]
fail.defer()
app.run_worker(wait=False)
assert reported == [("fail_in_django", "on purpose", "of the settings")], reported
