"""Sets up what the page assumes: an app that is open, a collector, and stand-ins for packages."""

import asyncio
import json
import logging
import os
import subprocess
import sys

import collector
import httpx

import procrastinate

sys.path.append("stand_ins")  # at the end, so that packages that are installed come first
collector.start()
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
    """Both errors are reported. The id of a request is in the log of its job, and its trace goes on in the job."""
    fail.defer()
    fail_async.defer()
    app.run_worker(wait=False)
    assert len(captured) == 2
    _check_request_ids()
    _check_django()
    _check_traces()


def _check_request_ids() -> None:
    from procrastinate.logs import JobFilter, JsonFormatter

    lines: list[dict[str, object]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(self.format(record)))

    handler = Handler()
    handler.addFilter(JobFilter())
    handler.setFormatter(JsonFormatter())
    logging.getLogger("shop").addHandler(handler)
    logging.getLogger("shop").setLevel("INFO")
    asyncio.run(_post({"X-Request-ID": "fastapi"}))
    globals()["site"].test_client().post("/orders", headers={"X-Request-ID": "flask"})
    asyncio.run(_post({}))
    app.run_worker(wait=False)
    ids = [line["meta"]["request_id"] for line in lines if line["message"] == "receipt sent"]  # type: ignore[index]
    assert ids[:2] == ["fastapi", "flask"]
    assert len(ids[2]) == 36


async def _post(headers: dict[str, str]) -> None:
    transport = httpx.ASGITransport(globals()["web"])
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        await client.post("/orders", headers=headers)


def _check_django() -> None:
    """The project of the page stores the id of a request, and its worker shows it."""
    for command in (["order.py"], ["manage.py", "procrastinate", "worker", "--one-shot"]):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    assert "The id is xyz" in done.stdout
    done = subprocess.run([sys.executable, "reports.py"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def _check_traces() -> None:
    """Each request, and the span of the program without requests, has its defer and its run in one trace."""
    from opentelemetry import metrics, trace

    trace.get_tracer_provider().force_flush()  # type: ignore[attr-defined]
    metrics.get_meter_provider().force_flush()  # type: ignore[attr-defined]
    of_requests = collector.kinds_of_traces("SPAN_KIND_SERVER")
    assert len(of_requests) == 4  # two to FastAPI, one to Flask, one to Django
    for kinds in (*of_requests, *collector.kinds_of_traces("import orders")):
        assert kinds >= {"SPAN_KIND_PRODUCER", "SPAN_KIND_CONSUMER"}
    assert len(collector.kinds_of_traces("import orders")) == 1
    assert "messaging.process.duration" in collector.metrics
