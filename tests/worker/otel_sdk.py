"""OpenTelemetry's SDK for tests: what it exports, and the values of metrics. A process sets up the SDK once."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from procrastinate import run_observers, worker_observers


@functools.cache
def _exporter() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@functools.cache
def _reader() -> InMemoryMetricReader:
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    return reader


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """Return what the SDK exports."""
    return _exporter()


@pytest.fixture(scope="module")
def reader() -> InMemoryMetricReader:
    """Return what the SDK measures."""
    return _reader()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    """Return the spans of this test."""
    exporter.clear()
    yield exporter
    exporter.clear()


@pytest.fixture(autouse=True)
def without_observers() -> Iterator[None]:
    """Leave no observer for other tests of this process."""
    yield
    run_observers.EVERYWHERE.clear()
    worker_observers.EVERYWHERE.clear()
    worker_observers.AROUND_STATEMENTS.clear()


def runs(spans: InMemorySpanExporter) -> list[ReadableSpan]:
    """Return the spans of runs."""
    return [span for span in spans.get_finished_spans() if span.kind is SpanKind.CONSUMER]


def value(reader: InMemoryMetricReader, name: str, task: str) -> list[int | float]:
    """Return the values of a metric for a task."""
    data = reader.get_metrics_data()
    assert data is not None
    found = [one for one in data.resource_metrics[0].scope_metrics[0].metrics if one.name == name]
    points: list[Any] = [point for one in found for point in one.data.data_points]
    return [point.value for point in points if task in point.attributes.values()]


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """Return the points of each metric."""
    data = reader.get_metrics_data()
    assert data is not None
    found = data.resource_metrics[0].scope_metrics[0].metrics
    return {one.name: list(one.data.data_points) for one in found}
