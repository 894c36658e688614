"""Style sheet and scripts, read from the package and served by a route of the dashboard."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources

from procrastinate.dashboard.messages import Response

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
NAMES = ("dashboard.css", "dashboard.js", "theme.js", "icon.svg")


@functools.cache
def _content(name: str) -> bytes:
    return importlib.resources.files("procrastinate.dashboard").joinpath("static", name).read_bytes()


@functools.cache
def path(name: str) -> str:
    """Return the path of a file below the dashboard. It names the content, so browsers keep it for good."""
    return f"static/{hashlib.sha256(_content(name)).hexdigest()[:16]}/{name}"


def serve(requested: str) -> Response | None:
    """Return the file with this path, or ``None``."""
    name = requested.rpartition("/")[2]
    if name not in NAMES or path(name) != requested:
        return None
    headers = (
        ("Content-Type", _TYPES[name.rpartition(".")[2]]),
        ("Cache-Control", "public, max-age=31536000, immutable"),
        ("X-Content-Type-Options", "nosniff"),
    )
    return Response(headers=headers, body=_content(name))
