"""A program whose worker is traced. The spans are lines of a file: the id of the trace, the parent, and the links."""

from __future__ import annotations

import os
import pathlib

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

import procrastinate
from procrastinate.otel import instrument


def as_line(span: ReadableSpan) -> str:
    """Return a span as one line of JSON."""
    return str(span.to_json(indent=None)) + os.linesep


spans = pathlib.Path(os.environ["SPANS"]).open("a", encoding="utf-8")  # noqa: SIM115 - it is open until the end
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=spans, formatter=as_line)))
trace.set_tracer_provider(provider)

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
instrument(app)


@app.task(name="fails once", queue="mail", retry=procrastinate.RetryStrategy(max_attempts=2), pass_context=True)
def fail_once(context: procrastinate.JobContext) -> None:
    """Fail in the first run."""
    if context.job.attempts == 0:
        raise ValueError("on purpose")
