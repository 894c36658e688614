"""Sets up what the page assumes: an app that is open."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()


def at_the_end() -> None:
    """The job's logs are kept."""
    app.run_worker(wait=False)
    (logs,) = app.job_manager.get_logs(globals()["job_id"])
    assert "orders.csv is empty" in str(logs)
