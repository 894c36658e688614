"""A program that OpenTelemetry and Sentry observe. Both send over HTTP to the address in the environment.

As the main program it is the web process, which defers a job in a request.
"""

from __future__ import annotations

import os

import sentry_sdk
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import procrastinate
from procrastinate.contrib.sentry import ProcrastinateIntegration
from procrastinate.otel import instrument

receiver = os.environ["RECEIVER"]
resource = Resource.create({"process.pid": os.getpid()})
provider = TracerProvider(resource=resource)
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{receiver}/v1/traces")))
trace.set_tracer_provider(provider)
reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{receiver}/v1/metrics"))
metrics.set_meter_provider(MeterProvider([reader], resource=resource))
sentry_sdk.init(
    dsn=receiver.replace("http://", "http://public@") + "/1",
    traces_sample_rate=1.0,
    integrations=[ProcrastinateIntegration()],
)

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
instrument(app)


@app.task(name="fails once", queue="mail", retry=procrastinate.RetryStrategy(max_attempts=2), pass_context=True)
def fail_once(context: procrastinate.JobContext) -> None:
    """Fail in the first run."""
    if context.job.attempts == 0:
        raise ValueError("on purpose")


@app.task(name="fails", queue="mail")
def fail() -> None:
    """Fail for good."""
    raise KeyError("for good")


def answer_request() -> None:
    """Defer a job of each task, as a web process does in a request."""
    with (
        app.open(),
        sentry_sdk.start_transaction(name="request", op="http.server"),
        trace.get_tracer("web").start_as_current_span("request"),
    ):
        fail_once.defer()
        fail.defer()


if __name__ == "__main__":
    answer_request()
