"""Sets up what the page assumes: an app that is open, and a stand-in for a function of a package."""

import os
import types

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()

captured: list[Exception] = []
report = captured.append
DSN = "https://public@127.0.0.1:9/1"
"""Nothing listens there."""


@app.task(name="fail")
def fail() -> None:
    raise ValueError("on purpose")


@app.task(name="fail_async")
async def fail_async() -> None:
    raise ValueError("on purpose")


def at_the_end() -> None:
    """Both errors are reported."""
    fail.defer()
    fail_async.defer()
    app.run_worker(wait=False)
    assert len(captured) == 2
    check_request_id()


def check_request_id() -> None:
    """A job has the id of the request that deferred it, and a job outside of requests has none."""
    names = globals()

    request = types.SimpleNamespace(headers={"X-Request-ID": "req-7"})
    inside = names["request_id_middleware"](lambda _: fail.defer())(request)
    outside = fail.defer()
    found = {job.id: job.meta for job in app.job_manager.list_jobs(status="todo")}
    assert found[inside]["request_id"] == "req-7"
    assert "request_id" not in (found[outside] or {})
