"""What the page on workflows takes for granted: an app, and a worker that runs."""

import os

import procrastinate
from procrastinate.testing import WorkerThread

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()
worker = WorkerThread(app)
worker.start()


def at_the_end() -> None:
    """All workflows of the page come to a good end."""
    names = globals()
    for name in ("parcel_id", "workflow_id", "thousand_id", "nightly_id", "order_id", "site_id"):
        assert app.workflows.wait(names[name], timeout=60).state == "succeeded", name
    worker.wait_until_done()
    worker.stop()
    assert {info.state for info in app.workflows.list()} == {"succeeded"}
