"""Sets up what the page assumes: an app that is open, and jobs of a task."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()

app.configure_task("shop.resize").defer()


def at_the_end() -> None:
    """The jobs of the task are cancelled."""
    with app.open():
        assert [job.status for job in app.job_manager.list_jobs()] == ["cancelled"]
