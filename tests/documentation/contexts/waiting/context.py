"""Sets up what the page assumes: an app that is open, a failed job, and two jobs that wait."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()


@app.task(name="shop.charge")
def charge() -> None:
    raise ValueError("on purpose")


charge.defer()
app.run_worker(wait=False)
job_id = app.configure_task("shop.other").defer()


def at_the_end() -> None:
    """The failed job waits again, and the other one is cancelled."""
    statuses = {job.task_name: job.status for job in app.job_manager.list_jobs()}
    assert statuses == {"shop.charge": "todo", "shop.other": "cancelled", "shop.send": "todo"}
