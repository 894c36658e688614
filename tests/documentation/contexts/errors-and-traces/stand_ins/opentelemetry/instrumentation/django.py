"""Stands in for OpenTelemetry's package for Django, which is not installed for the tests: each request is a span."""

from django.conf import settings
from opentelemetry import trace


def traced(get_response):
    """Return middleware that makes a span of each request."""

    def respond(request):
        tracer = trace.get_tracer(__name__)
        with tracer.start_as_current_span(request.path, kind=trace.SpanKind.SERVER):
            return get_response(request)

    return respond


class DjangoInstrumentor:
    """Makes a span of each request to the Django project."""

    def instrument(self):
        """Put the middleware first."""
        settings.MIDDLEWARE = [f"{__name__}.traced", *settings.MIDDLEWARE]
