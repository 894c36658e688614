"""What the dashboard and the metrics share as web applications: types, and the ends of an ASGI exchange."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
AsgiApplication = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


def require_http(scope: dict[str, Any], what: str) -> None:
    """Raise ``RuntimeError`` for an ASGI scope that is not of HTTP."""
    if scope["type"] != "http":
        raise RuntimeError(f"{what} HTTP and not {scope['type']}")


def path_of(scope: dict[str, Any]) -> str:
    """Return the path below the prefix that the application is mounted at."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def query_of(scope: dict[str, Any]) -> str:
    """Return the query string."""
    query: bytes = scope.get("query_string", b"")
    return query.decode("ascii", "replace")


def headers_of(scope: dict[str, Any]) -> dict[str, str]:
    """Return the headers of the request, with names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


async def respond(
    scope: dict[str, Any], send: Send, *, status: int, headers: Iterable[tuple[str, str]], body: bytes
) -> None:
    """Send a response. The answer to HEAD has no body."""
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
