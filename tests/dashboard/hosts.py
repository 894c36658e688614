"""The dashboard in each host, behind a real web server."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import sqlalchemy as sa

from procrastinate.dashboard import Access, server
from tests.dashboard import sample
from tests.documentation.shell import free_port

PREFIX = "/tools/queue/"
"""Where the hosts mount the dashboard."""


@dataclasses.dataclass
class Decision:
    """Decides on access in place of a project. Tests change it."""

    access: Any = dataclasses.field(default_factory=lambda: Access.everything("ada"))

    def __call__(self, request: object) -> Any:
        return self.access


@dataclasses.dataclass(frozen=True)
class Served:
    """A dashboard that is served: its address, the database behind it, and how to change the access of visitors."""

    url: str
    engine: sa.Engine
    set_access: Callable[[Any], None]
    cookies: dict[str, str] = dataclasses.field(default_factory=dict)
    is_embedded: bool = False

    @contextlib.contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """Open a client that behaves as a browser on a page of the dashboard."""
        headers = {"Sec-Fetch-Site": "same-origin"}
        with httpx.Client(base_url=self.url, cookies=self.cookies, headers=headers, timeout=30) as client:
            yield client


@contextlib.contextmanager
def _served_by_wsgi(application: Any) -> Iterator[str]:
    with server.make(application, "127.0.0.1", 0) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()


@contextlib.contextmanager
def _served_by_asgi(application: Any) -> Iterator[str]:
    import uvicorn

    port = free_port()
    serving = uvicorn.Server(uvicorn.Config(application, port=port, log_level="error", ws="none", lifespan="on"))
    thread = threading.Thread(target=lambda: asyncio.run(serving.serve()))
    thread.start()
    try:
        while not serving.started:
            assert thread.is_alive()
            threading.Event().wait(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        serving.should_exit = True
        thread.join()


def _below_prefix(application: Any) -> Any:
    """Mount a WSGI application below the prefix, as servers do."""

    def mounted(environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        assert path.startswith(PREFIX.rstrip("/")), path
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = PREFIX.rstrip("/"), path[len(PREFIX) - 1 :]
        return application(environ, start_response)

    return mounted


@contextlib.contextmanager
def wsgi_host(database_url: str, engine: sa.Engine, **options: Any) -> Iterator[Served]:
    from procrastinate.dashboard import wsgi

    decision = Decision()
    with sample.make_app(database_url).open() as app:
        application = wsgi(app, authorize=decision, **options)
        with _served_by_wsgi(_below_prefix(application)) as address:
            yield Served(f"{address}{PREFIX}", engine, lambda access: setattr(decision, "access", access))


@contextlib.contextmanager
def _flask(database_url: str, engine: sa.Engine, **options: Any) -> Iterator[Served]:
    import flask

    from procrastinate.adapters.standalone.flask import dashboard

    decision = Decision()
    with sample.make_app(database_url).open() as app:
        flask_app = flask.Flask("tests")
        flask_app.register_blueprint(dashboard(app, authorize=decision, **options), url_prefix=PREFIX.rstrip("/"))
        with _served_by_wsgi(flask_app) as address:
            yield Served(f"{address}{PREFIX}", engine, lambda access: setattr(decision, "access", access))


@contextlib.contextmanager
def _asgi(database_url: str, engine: sa.Engine, **options: Any) -> Iterator[Served]:
    import fastapi

    from procrastinate.adapters.standalone.fastapi import lifespan
    from procrastinate.dashboard import asgi

    decision = Decision()
    app = sample.make_app(database_url)
    application = fastapi.FastAPI(lifespan=lifespan(app))
    application.mount(PREFIX.rstrip("/"), asgi(app, authorize=decision, **options))
    with _served_by_asgi(application) as address:
        yield Served(f"{address}{PREFIX}", engine, lambda access: setattr(decision, "access", access))


@contextlib.contextmanager
def _fastapi(database_url: str, engine: sa.Engine, **options: Any) -> Iterator[Served]:
    import fastapi

    from procrastinate.adapters.standalone.fastapi import dashboard, lifespan

    decision = Decision()
    app = sample.make_app(database_url)
    application = fastapi.FastAPI(lifespan=lifespan(app))
    application.include_router(dashboard(app, authorize=decision, **options), prefix=PREFIX.rstrip("/"))
    with _served_by_asgi(application) as address:
        yield Served(f"{address}{PREFIX}", engine, lambda access: setattr(decision, "access", access))


@contextlib.contextmanager
def _django(database_url: str, engine: sa.Engine, path: str, *, is_embedded: bool) -> Iterator[Served]:
    from tests.django import support

    support.set_up()
    from django.contrib.auth.models import Permission, User
    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.core.wsgi import get_wsgi_application
    from django.test import Client

    def set_access(access: Access) -> None:
        names = {"view": access.may("view"), "change": access.may("retry"), "delete": access.may("delete")}
        chosen = [f"{name}_procrastinatejob" for name, allowed in names.items() if allowed]
        user.user_permissions.set(Permission.objects.filter(codename__in=chosen))

    with support.using_database(database_url):
        user = User.objects.create_user("ada", is_staff=True)
        set_access(Access.everything())
        client = Client()
        client.force_login(user)
        cookies = {"sessionid": client.cookies["sessionid"].value}
        with _served_by_wsgi(StaticFilesHandler(get_wsgi_application())) as address:
            yield Served(f"{address}{path}", engine, set_access, cookies, is_embedded)


def _django_admin(database_url: str, engine: sa.Engine) -> AbstractContextManager[Served]:
    return _django(database_url, engine, "/admin/procrastinate/procrastinatejob/dashboard/", is_embedded=True)


def _django_urls(database_url: str, engine: sa.Engine) -> AbstractContextManager[Served]:
    return _django(database_url, engine, "/queue/", is_embedded=False)


HOSTS: dict[str, Callable[..., AbstractContextManager[Served]]] = {
    "wsgi": wsgi_host,
    "flask": _flask,
    "asgi": _asgi,
    "fastapi": _fastapi,
    "django_admin": _django_admin,
    "django_urls": _django_urls,
}
