"""Sets up what the page assumes: imported names."""

import io
import json
import logging
import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()


def at_the_end() -> None:
    """Each line is JSON, and an error is in it. The processor adds nothing outside a job, and the job inside one."""
    added: list[dict[str, object]] = []
    add_job = globals()["add_job"]
    assert add_job(None, "info", {"event": "hello"}) == {"event": "hello"}
    stream = io.StringIO()
    globals()["handler"].setStream(stream)

    @app.task(name="fail")
    def fail() -> None:
        added.append(add_job(None, "info", {"event": "hello"}))
        raise ValueError("on purpose")

    fail.defer()
    app.run_worker(wait=False)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {line.get("extra", {}).get("action") for line in lines} >= {"start_worker", "job_error"}
    assert [(event["task"], event["event"]) for event in added] == [("fail", "hello")]
    assert any(line.get("exception", {}).get("message") == "on purpose" for line in lines)
    logging.getLogger().removeHandler(globals()["handler"])
