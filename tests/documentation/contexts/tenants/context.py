"""Sets up what the page assumes: an app that is open."""

import contextvars  # noqa: F401
import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()


def at_the_end() -> None:
    """The task has seen its tenant."""
    globals()["bill"].store_result = True
    app.run_worker(wait=False)
    (job,) = app.job_manager.list_jobs()
    assert app.job_manager.get_result(job.id or 0).value == "bill of acme"
