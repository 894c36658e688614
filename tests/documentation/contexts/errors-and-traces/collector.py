"""Receives what OpenTelemetry's exporters send over HTTP, as a collector does."""

from __future__ import annotations

import collections
import http.server
import os
import threading
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

spans: list[Span] = []
metrics: set[str] = set()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
        elif self.path == "/v1/metrics":
            for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                metrics.update(metric.name for scope in measured.scope_metrics for metric in scope.metrics)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


def start() -> None:
    """Listen on a free port, and let the exporters of this process and of its children send to it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"


def kinds_of_traces(first: str) -> list[set[str]]:
    """Return the kinds of the spans of each trace that has a span of the kind, or of the name, ``first``."""
    traces: dict[bytes, list[Span]] = collections.defaultdict(list)
    for span in spans:
        traces[span.trace_id].append(span)
    found = []
    for trace in traces.values():
        kinds, names = {Span.SpanKind.Name(one.kind) for one in trace}, {one.name for one in trace}
        if first in kinds | names:
            found.append(kinds)
    return found
