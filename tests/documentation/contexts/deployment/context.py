"""What the page on deployment takes for granted: an app that is open."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()


def at_the_end() -> None:
    """The task of the page runs."""
    globals()["remove_old_jobs"].defer(timestamp=0)
    app.run_worker(wait=False)
    (job,) = app.job_manager.list_jobs()
    assert job.status == "succeeded"
