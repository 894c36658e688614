"""What a collector, Sentry and Prometheus receive over HTTP: of a web process, of worker processes, and of a retry."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests import database
from tests.metrics.hosts import HOSTS
from tests.metrics.test_metrics import read
from tests.worker.running import DEADLINE, Queue


class Receiver(http.server.ThreadingHTTPServer):
    """Receives what the exporters of OpenTelemetry and Sentry's transport send."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[tuple[int, Span]] = []
        """Each with the id of its process."""
        self.sums: dict[tuple[str, str, int], float] = {}
        """The last value of each counter, by its name, its task and its process."""
        self.items: list[tuple[str, dict[str, Any]]] = []
        """Items of Sentry's envelopes: the kind and the content."""

    @property
    def url(self) -> str:
        """Return the address."""
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, path: str, body: bytes) -> None:
        """Take a request."""
        if path == "/v1/traces":
            for of_process in ExportTraceServiceRequest.FromString(body).resource_spans:
                pid = _pid(of_process.resource)
                self.spans += [(pid, span) for scope in of_process.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self._take_metrics(_pid(measured.resource), [m for s in measured.scope_metrics for m in s.metrics])
        else:
            self.items += _items_of_envelope(body)

    def _take_metrics(self, pid: int, taken: list[Any]) -> None:
        for metric in taken:
            for point in metric.sum.data_points:
                task = _attributes(point).get("messaging.procrastinate.task", "")
                self.sums[metric.name, task, pid] = point.as_int or point.as_double

    def total(self, name: str, task: str) -> float:
        """Return the value of a counter for a task, added up over processes."""
        return sum(value for (one, of, _), value in self.sums.items() if (one, of) == (name, task))


def _items_of_envelope(envelope: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the items of an envelope. The header of an item says how many bytes its content has."""
    _, _, rest = envelope.partition(b"\n")
    while rest:
        line, _, rest = rest.partition(b"\n")
        header = json.loads(line)
        length = header.get("length", rest.find(b"\n") if b"\n" in rest else len(rest))
        content, end, rest = rest[:length], rest[length : length + 1], rest[length + 1 :]
        assert len(content) == length
        assert end in (b"\n", b""), "The content is longer than its header says"
        yield header["type"], json.loads(content)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        assert isinstance(self.server, Receiver)
        self.server.take(self.path, body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def _attributes(of: Any) -> dict[str, str]:
    return {one.key: one.value.string_value or str(one.value.int_value) for one in of.attributes}


def _pid(resource: Any) -> int:
    return int(_attributes(resource)["process.pid"])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_collector_sentry_and_prometheus_learn_of_a_request_its_runs_and_a_retry_in_all_processes(
    database_url: str, queue: Queue, receiver: Receiver, tmp_path: pathlib.Path
) -> None:
    """The workers end by a signal, and send before that what their last jobs have left."""
    environment = {**os.environ, "DATABASE_URL": database.libpq_url(database_url), "RECEIVER": receiver.url}
    web = subprocess.run(
        [sys.executable, "-m", "tests.worker.observed_program"],
        env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert web.returncode == 0, web.stderr
    command = [sys.executable, "-m", "procrastinate", "--app=tests.worker.observed_program.app", "worker"]
    with (tmp_path / "log").open("w") as log:
        workers = subprocess.Popen([*command, "--processes=2"], env=environment, stderr=log)
    try:
        _wait_for(queue, {"succeeded": 1, "failed": 1})
    finally:
        workers.send_signal(signal.SIGTERM)
        workers.wait(timeout=DEADLINE)
    _check_spans(receiver)
    assert receiver.total("messaging.client.sent.messages", "fails once") == 1
    assert receiver.total("messaging.client.consumed.messages", "fails once") == 2
    assert receiver.total("procrastinate.job.retries", "fails once") == 1
    assert receiver.total("messaging.client.consumed.messages", "fails") == 1
    _check_items(receiver.items)
    with HOSTS["wsgi"](database_url, None) as host:
        samples = read(host)
    for task, outcome in (("fails once", "retried"), ("fails once", "succeeded"), ("fails", "failed")):
        labels = (("outcome", outcome), ("queue", "mail"), ("task", task))
        assert samples["procrastinate_jobs_total", labels] == 1


def _wait_for(queue: Queue, statuses: dict[str, int]) -> None:
    deadline = time.monotonic() + DEADLINE
    while (last := queue.statuses()) != statuses:
        assert time.monotonic() < deadline, last
        time.sleep(0.05)


def _check_spans(receiver: Receiver) -> None:
    of_queue = [(pid, span, _attributes(span)) for pid, span in receiver.spans if span.kind != Span.SPAN_KIND_INTERNAL]
    sends = {a["messaging.procrastinate.task"]: (pid, s) for pid, s, a in of_queue if s.kind == Span.SPAN_KIND_PRODUCER}
    runs = sorted(
        ((a["messaging.procrastinate.task"], a["messaging.procrastinate.attempt"]), pid, span, a)
        for pid, span, a in of_queue
        if span.kind == Span.SPAN_KIND_CONSUMER
    )
    outcomes = [(task, attempt, a["messaging.procrastinate.outcome"]) for (task, attempt), _, _, a in runs]
    assert outcomes == [("fails", "1", "failed"), ("fails once", "1", "retried"), ("fails once", "2", "succeeded")]
    assert [span.status.code == Status.STATUS_CODE_ERROR for _, _, span, _ in runs] == [True, True, False]
    (request,) = [span for _, span in receiver.spans if span.name == "request"]
    for (task, attempt), pid, span, _ in runs:
        web, send = sends[task]
        assert pid != web
        assert send.parent_span_id == request.span_id
        assert [link.span_id for link in span.links] == [send.span_id]
        is_child = attempt == "1"
        assert (span.parent_span_id == send.span_id) is is_child
        assert (span.trace_id == request.trace_id) is is_child


def _check_items(items: list[tuple[str, dict[str, Any]]]) -> None:
    transactions = [content for kind, content in items if kind == "transaction"]
    (request,) = [one for one in transactions if one["transaction"] == "request"]
    published = {span["span_id"] for span in request["spans"] if span["op"] == "queue.publish"}
    runs = [one for one in transactions if one["transaction"] != "request"]
    statuses = sorted((one["transaction"], one["contexts"]["trace"]["status"]) for one in runs)
    assert statuses == [("fails", "internal_error"), ("fails once", "aborted"), ("fails once", "ok")]
    assert {one["contexts"]["trace"]["parent_span_id"] for one in runs} == published
    events = [content for kind, content in items if kind == "event"]
    assert [event["exception"]["values"][-1]["type"] for event in events] == ["KeyError"]
