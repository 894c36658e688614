"""Sets up what the page assumes: an app that is open, and jobs of a task."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()

app.configure_task("shop.resize").defer()


def at_the_end() -> None:
    """The jobs of the task are cancelled. The job that deletes old jobs has run."""
    with app.open():
        jobs = [(job.task_name, job.status) for job in app.job_manager.list_jobs()]
    assert jobs == [
        ("builtin:procrastinate.builtin_tasks.remove_old_jobs", "succeeded"),
        ("shop.resize", "cancelled"),
    ]
