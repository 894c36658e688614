"""Sets up what the page assumes: an app that is open."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()


def at_the_end() -> None:
    """A worker of one queue leaves the jobs of the other."""
    globals()["send_mail"].defer(to="ann")
    globals()["build_report"].defer(month="May")
    app.run_worker(wait=False, queues=["mail"])
    assert {job.queue: job.status for job in app.job_manager.list_jobs()} == {"mail": "succeeded", "reports": "todo"}
