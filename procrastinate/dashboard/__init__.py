"""The dashboard: pages that show the queue and steer it, in any web framework.

It needs the extra ``dashboard`` (Jinja2). The adapters of Flask, FastAPI and Django mount it. :func:`wsgi` and
:func:`asgi` return it as an application of its own.
"""

from __future__ import annotations

from procrastinate.dashboard.access import Access, Authorize, Permission
from procrastinate.dashboard.asgi_host import asgi
from procrastinate.dashboard.redaction import SECRETS, hide_keys
from procrastinate.dashboard.wsgi_host import wsgi

__all__ = ["SECRETS", "Access", "Authorize", "Permission", "asgi", "hide_keys", "wsgi"]
