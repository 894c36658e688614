"""The two kinds of application, called in the same way."""

from __future__ import annotations

import asyncio
import dataclasses
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from wsgiref.util import setup_testing_defaults

from procrastinate.app import App
from procrastinate.metrics import metrics_asgi, metrics_wsgi


@dataclasses.dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str


class WsgiHost:
    """Calls the WSGI application."""

    def __init__(self, app: App, token: str | None) -> None:
        self._application = metrics_wsgi(app, token=token)

    def get(self, path: str, query: str = "", method: str = "GET", authorization: str | None = None) -> Reply:
        """Send a request."""
        environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
        environ["wsgi.input"] = io.BytesIO()
        setup_testing_defaults(environ)
        environ["PATH_INFO"] = path
        if authorization is not None:
            environ["HTTP_AUTHORIZATION"] = authorization
        started: list[Any] = []
        body = b"".join(self._application(environ, lambda status, headers: started.extend((status, headers))))
        return Reply(int(started[0][:3]), {name.lower(): value for name, value in started[1]}, body.decode())


class AsgiHost:
    """Calls the ASGI application, on a loop of its own."""

    def __init__(self, app: App, token: str | None, runner: asyncio.Runner) -> None:
        self._application = metrics_asgi(app, token=token)
        self._runner = runner

    def get(self, path: str, query: str = "", method: str = "GET", authorization: str | None = None) -> Reply:
        """Send a request."""
        headers = [] if authorization is None else [(b"authorization", authorization.encode())]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        async def call() -> None:
            await self._application(scope, receive, send)

        self._runner.run(call())
        got = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], got, sent[1]["body"].decode())


Host = WsgiHost | AsgiHost


@contextmanager
def wsgi_host(url: str, token: str | None) -> Iterator[Host]:
    """Open an app for synchronous use."""
    with App(connector=url).open() as app:
        yield WsgiHost(app, token)


@contextmanager
def asgi_host(url: str, token: str | None) -> Iterator[Host]:
    """Open an app for asynchronous use."""
    app = App(connector=url)
    with asyncio.Runner() as runner:

        async def open_() -> None:
            await app.open_async()

        runner.run(open_())
        yield AsgiHost(app, token, runner)
        runner.run(app.close_async())


HOSTS = {"wsgi": wsgi_host, "asgi": asgi_host}
