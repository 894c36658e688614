"""What the page on deployment takes for granted: an app that is open."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()


def at_the_end() -> None:
    """The task of the page runs, and so does the built-in task that its command has deferred."""
    globals()["delete_old_jobs"].defer(timestamp=0)
    app.run_worker(wait=False)
    assert [job.status for job in app.job_manager.list_jobs()] == ["succeeded", "succeeded"]
