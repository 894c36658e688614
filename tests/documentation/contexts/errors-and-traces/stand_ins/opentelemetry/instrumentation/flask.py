"""Stands in for OpenTelemetry's package for Flask, which is not installed for the tests: each request is a span."""

from opentelemetry import trace


class FlaskInstrumentor:
    """Makes a span of each request to a Flask application."""

    def instrument_app(self, app):
        """Wrap the WSGI application."""
        wsgi_app = app.wsgi_app

        def traced(environ, start_response):
            tracer = trace.get_tracer(__name__)
            with tracer.start_as_current_span(environ["PATH_INFO"], kind=trace.SpanKind.SERVER):
                return wsgi_app(environ, start_response)

        app.wsgi_app = traced
