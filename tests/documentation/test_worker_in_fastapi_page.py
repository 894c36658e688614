"""The worker inside FastAPI, and the log of the process that uvicorn and the worker share."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.documentation.reader import Reader

PAGE = "docs/howto/worker-in-fastapi.md"


def test_the_page_works_as_it_says_and_one_log_has_the_request_and_its_job(
    new_reader: Callable[[str], Reader],
) -> None:
    reader = new_reader(PAGE)
    reader.read_all(PAGE)
    lines = reader.shell.printed_by_server().splitlines()
    records = [json.loads(line) for line in lines if not line.startswith("hello")]
    requests = [record["message"] for record in records if record["logger"] == "uvicorn.access"]
    assert any(message.endswith('"POST /greetings/Bob HTTP/1.1" 202') for message in requests)
    (start,) = [record for record in records if record.get("extra", {}).get("action") == "start_job"]
    assert (start["logger"], start["job_id"], start["task"]) == ("procrastinate.worker", 2, "greet")
    assert start["message"] == "Starting job greet[2](...)"
    reader.finish()
