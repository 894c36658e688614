"""A small web server for the dashboard, for the command line: on the machine itself, or behind a password."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hmac
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from procrastinate import exceptions
from procrastinate._text.terminal import say
from procrastinate._web import WsgiApplication
from procrastinate.app import App
from procrastinate.dashboard.access import Access
from procrastinate.dashboard.wsgi_host import wsgi

USER_VARIABLE = "PROCRASTINATE_DASHBOARD_USER"
PASSWORD_VARIABLE = "PROCRASTINATE_DASHBOARD_PASSWORD"
LOCAL = {"localhost", "127.0.0.1", "::1"}
"""Addresses that only this machine can reach."""
_MOST_THREADS = 16
_LONGEST_SILENCE = 30.0
"""Seconds that a client may take between two parts of a request."""
_SHORT_SILENCE = 1.0
"""Seconds that a client may take to ask while others wait for a thread."""


@dataclasses.dataclass(frozen=True)
class Login:
    """The name and password of the only user."""

    user: str
    password: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Login | None:
        """Return the login that the environment sets, or ``None``.

        White space around a value is dropped, because a secret or a file with Windows line ends adds a newline.

        Raises
        ------
        ValueError
            Only one of the two variables is set, or one begins and ends with quotes.
        """
        user, password = (_value_of(name, environment) for name in (USER_VARIABLE, PASSWORD_VARIABLE))
        if bool(user) != bool(password):
            raise ValueError(f"Set both {USER_VARIABLE} and {PASSWORD_VARIABLE}, or neither")
        return cls(user, password) if user and password else None

    def matches(self, header: str) -> bool:
        """Return whether an ``Authorization`` header has this name and password, in a time that tells neither."""
        scheme, _, encoded = header.partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
        except ValueError:  # no Base64, or other characters than those of ASCII
            given = b""
        return hmac.compare_digest(given, f"{self.user}:{self.password}".encode())


def _value_of(variable: str, environment: Mapping[str, str]) -> str:
    """Return the value of a variable, without white space around it. An empty text stands for none.

    Raises
    ------
    ValueError
        It begins and ends with quotes. They are a common mistake where no shell removes them (``docker --env-file``).
    """
    value = environment.get(variable, "").strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'`":
        raise ValueError(f"{variable} begins and ends with quotes, which are a part of the value: remove them")
    return value


def protected(app: App, host: str, login: Login | None, **options: Any) -> WsgiApplication:
    """Return the dashboard with the protection that the address needs.

    Parameters
    ----------
    host:
        The address that the server listens on.
    login:
        The login, which each request must have.

    Raises
    ------
    ValueError
        There is no login, and other machines can reach the address.
    """
    if login is None and host not in LOCAL:
        raise ValueError(
            f"Other machines can reach {host}: set {USER_VARIABLE} and {PASSWORD_VARIABLE}, or listen on 127.0.0.1"
        )
    pages = wsgi(app, authorize=Access.everything(login.user if login else ""), **options)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if login is not None and not login.matches(environ.get("HTTP_AUTHORIZATION", "")):
            challenge = [("WWW-Authenticate", 'Basic realm="Procrastinate", charset="UTF-8"'), *_TEXT]
            start_response("401 Unauthorized", challenge)
            return [b"Log in to see this page."]
        # Another site can give its own name the address of this machine, and would read the pages under that name.
        if login is None and _host_name(environ.get("HTTP_HOST", "")) not in LOCAL:
            start_response("403 Forbidden", list(_TEXT))
            return [b"Open this page under localhost."]
        return pages(environ, start_response)

    return application


_TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))


def _host_name(header: str) -> str:
    """Return the name or address in a ``Host`` header, without the port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread, a limited number at the same time.

    Browsers and proxies open connections before they need them. While such connections take all threads, and others
    wait, the server closes those that have asked nothing yet.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *args: Any, **options: Any) -> None:
        self._slots = threading.BoundedSemaphore(_MOST_THREADS)
        self._mutex = threading.Lock()
        self._silent: dict[socket.socket, float] = {}
        """The open connections that have asked nothing yet, and the time at which each was opened."""
        super().__init__(*args, **options)

    def process_request(self, request: Any, client_address: Any) -> None:
        while not self._slots.acquire(timeout=_SHORT_SILENCE / 2):
            self._close_silent()
        with self._mutex:
            self._silent[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except Exception:  # the system refuses a thread, and none gives the place back
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def _leave(self, request: socket.socket) -> None:
        self.note_question(request)
        self._slots.release()

    def note_question(self, request: socket.socket) -> None:
        """Note that a connection has asked something, or is closed."""
        with self._mutex:
            self._silent.pop(request, None)

    def _close_silent(self) -> None:
        with self._mutex:
            for request, opened in self._silent.items():
                if time.monotonic() - opened > _SHORT_SILENCE:
                    with contextlib.suppress(OSError):  # the client was faster
                        request.shutdown(socket.SHUT_RDWR)


class _Handler(WSGIRequestHandler):
    timeout = _LONGEST_SILENCE
    server: _Server

    def parse_request(self) -> bool:
        """Read the head of a request."""
        is_read = super().parse_request()
        self.server.note_question(self.connection)
        return is_read

    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests: each open page makes one every few seconds."""


class _Server6(_Server):
    address_family = socket.AF_INET6


def make(application: WsgiApplication, host: str, port: int) -> WSGIServer:
    """Return a server that listens on an address. Port 0 means any free port."""
    kind = _Server6 if ":" in host else _Server
    return make_server(host, port, application, server_class=kind, handler_class=_Handler)


def serve(application: WsgiApplication, host: str, port: int, *, what: str, path: str = "/") -> None:
    """Listen on an address, say where ``what`` is, and answer until Ctrl-C."""
    try:
        listening = make(application, host, port)
    except OSError as error:
        reason = error.strerror or error
        raise exceptions.ProcrastinateException(
            f"Cannot listen on port {port} of {host}: {reason}. Choose another with --port or --host"
        ) from None
    with listening:
        name = f"[{host}]" if ":" in host else host
        say(f"{what}: http://{name}:{listening.server_port}{path}", sys.stderr)
        listening.serve_forever()
