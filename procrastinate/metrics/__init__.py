"""Numbers of the queue for Prometheus and for autoscalers, read from the database and served over HTTP."""

from __future__ import annotations

from procrastinate.metrics.metrics_page import metrics_asgi, metrics_wsgi

__all__ = ["metrics_asgi", "metrics_wsgi"]
