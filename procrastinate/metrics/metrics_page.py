"""``/metrics`` and ``/scale`` as WSGI and ASGI applications."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from procrastinate import exceptions
from procrastinate._text.logs import get_logger
from procrastinate._web import (
    AsgiApplication,
    Receive,
    Send,
    WsgiApplication,
    headers_of,
    path_of,
    query_of,
    require_http,
    respond,
)
from procrastinate.app import App
from procrastinate.core.inspection import count_startable, load_figures, load_queues
from procrastinate.metrics.exposition import CONTENT_TYPE, exposition
from procrastinate.metrics.families import families
from procrastinate.metrics.scale import scale_figures

logger = get_logger(__name__)

KEPT_FOR = 2.0
"""Seconds during which further requests get the same answer. Each of many scrapers costs the database nothing more."""
_MOST_QUEUES = 200
_MOST_KEPT = 20
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def all_headers(self) -> list[tuple[str, str]]:
        length = ("Content-Length", str(len(self.body)))
        kept = ("Cache-Control", "no-store")
        return [("Content-Type", self.content_type), length, kept, ("X-Content-Type-Options", "nosniff"), *self.headers]


@dataclasses.dataclass(frozen=True, slots=True)
class _Wanted:
    """What a request asks for: the metrics, or the work of some queues."""

    is_scale: bool
    queues: tuple[str, ...] = ()


class _Kept:
    """The last answers, for a short time."""

    def __init__(self) -> None:
        self._answers: dict[_Wanted, tuple[float, _Answer]] = {}

    def get(self, wanted: _Wanted) -> _Answer | None:
        until, answer = self._answers.get(wanted, (0.0, None))
        return answer if time.monotonic() < until else None

    def keep(self, wanted: _Wanted, answer: _Answer) -> _Answer:
        if len(self._answers) >= _MOST_KEPT:
            self._answers.clear()
        self._answers[wanted] = (time.monotonic() + KEPT_FOR, answer)
        return answer


def metrics_wsgi(app: App, *, token: str | None) -> WsgiApplication:
    """Return a WSGI application that answers ``/metrics`` for Prometheus and ``/scale?queues=a,b`` as JSON.

    Parameters
    ----------
    app:
        The app, which must be open for synchronous use.
    token:
        Each request must have the header ``Authorization: Bearer <token>``. ``None`` lets every request pass.

    Raises
    ------
    ValueError
        The token is empty or not ASCII.
    """
    check_token(token)
    kept, lock = _Kept(), threading.Lock()

    def answer(environ: dict[str, Any]) -> _Answer:
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        wanted = _parse(environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", ""))
        if (refused := _refuse(token, authorization, wanted)) is not None:
            return refused
        assert isinstance(wanted, _Wanted)
        with lock:
            return kept.get(wanted) or kept.keep(wanted, _read(app, wanted))

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        given = answer(environ)
        start_response(f"{given.status.value} {given.status.phrase}", given.all_headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else given.body]

    return application


def metrics_asgi(app: App, *, token: str | None) -> AsgiApplication:
    """Return the same as :func:`metrics_wsgi` as an ASGI application. The app must be open for asynchronous use."""
    check_token(token)
    kept, lock = _Kept(), asyncio.Lock()

    async def answer(scope: dict[str, Any]) -> _Answer:
        wanted = _parse(scope["method"], path_of(scope), query_of(scope))
        if (refused := _refuse(token, headers_of(scope).get("authorization", ""), wanted)) is not None:
            return refused
        assert isinstance(wanted, _Wanted)
        async with lock:
            return kept.get(wanted) or kept.keep(wanted, await _read_async(app, wanted))

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        require_http(scope, "Metrics answer")
        given = await answer(scope)
        await respond(scope, send, status=given.status.value, headers=given.all_headers, body=given.body)

    return application


def check_token(token: str | None) -> None:
    """Refuse a token that no header can have.

    Raises
    ------
    ValueError
        The token is empty, has white space or is not ASCII.
    """
    if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("token must be ASCII without white space, and not empty. Write token=None to do without")


def _parse(method: str, path: str, query: str) -> _Wanted | _Answer:
    """Return what a request asks for, or the answer that says why there is no such thing."""
    if method not in ("GET", "HEAD"):
        return _Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"Use GET.\n", headers=(("Allow", "GET, HEAD"),))
    if path in ("", "/", "/metrics"):
        return _Wanted(is_scale=False)
    if path != "/scale":
        return _Answer(HTTPStatus.NOT_FOUND, b"There are /metrics and /scale.\n")
    given = urllib.parse.parse_qs(query, keep_blank_values=True).get("queues", [])
    names = sorted({name.strip() for one in given for name in one.split(",") if name.strip()})
    if len(names) > _MOST_QUEUES or any("\x00" in name for name in names):
        return _Answer(HTTPStatus.BAD_REQUEST, b"queues takes up to 200 names with commas between them.\n")
    if given and not names:  # an unset variable: the work of all queues would be a surprise
        return _Answer(HTTPStatus.BAD_REQUEST, b"queues is empty. Name queues, or leave it out for all.\n")
    return _Wanted(is_scale=True, queues=tuple(names))


def _refuse(token: str | None, authorization: str, wanted: _Wanted | _Answer) -> _Answer | None:
    """Return the answer to a request that gets no numbers. Without the token, it does not say which paths exist."""
    scheme, _, given = authorization.partition(" ")
    given = given.strip() if scheme.lower() == "bearer" else ""
    if token is not None and not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
        challenge = ("WWW-Authenticate", 'Bearer realm="procrastinate"')
        return _Answer(HTTPStatus.UNAUTHORIZED, b"Send the token as Authorization: Bearer.\n", headers=(challenge,))
    return wanted if isinstance(wanted, _Answer) else None


def _read(app: App, wanted: _Wanted) -> _Answer:
    run = app.connector.run
    try:
        queues = run(load_queues, wanted.queues)
        if wanted.is_scale:
            return _scale(scale_figures(queues, run(count_startable), wanted.queues))
        return _metrics(exposition(families(queues, run(load_figures))))
    except exceptions.ConnectorException as error:
        return _unavailable(error)


async def _read_async(app: App, wanted: _Wanted) -> _Answer:
    run = app.connector.run_async
    try:
        queues = await run(load_queues, wanted.queues)
        if wanted.is_scale:
            return _scale(scale_figures(queues, await run(count_startable), wanted.queues))
        return _metrics(exposition(families(queues, await run(load_figures))))
    except exceptions.ConnectorException as error:
        return _unavailable(error)


def _metrics(text: str) -> _Answer:
    return _Answer(HTTPStatus.OK, text.encode(), CONTENT_TYPE)


def _scale(figures: dict[str, Any]) -> _Answer:
    return _Answer(HTTPStatus.OK, json.dumps(figures).encode() + b"\n", _JSON)


def _unavailable(error: BaseException) -> _Answer:
    """Return the answer while the database cannot be read. The reason stands in the log only."""
    logger.warning("The metrics could not be read", exc_info=error, extra={"action": "metrics_problem"})
    return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"The database cannot be read. See the log.\n")
