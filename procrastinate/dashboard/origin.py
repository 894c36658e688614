"""Refuse requests that another site makes in the visitor's name."""

from __future__ import annotations

import urllib.parse
from collections.abc import Collection

from procrastinate.dashboard.messages import Request

_SAFE_METHODS = ("GET", "HEAD")


def refusal(request: Request, trusted_origins: Collection[str] = ()) -> str | None:
    """Return why a request that changes something is refused, or ``None``.

    Browsers say where a request comes from. ``Sec-Fetch-Site`` decides if it is there. Browsers send it to secure
    origins only, so otherwise ``Origin`` must name the host of the request.

    Parameters
    ----------
    trusted_origins:
        Further origins, such as ``https://tools.example.com``, for a proxy that changes the ``Host`` header.
    """
    if request.method in _SAFE_METHODS:
        return None
    origin = request.headers.get("origin", "")
    if origin in trusted_origins and origin:
        return None
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return None if site == "same-origin" else "The request comes from another site."
    if not origin:
        return "The request does not say where it comes from: it has neither Sec-Fetch-Site nor Origin."
    if urllib.parse.urlsplit(origin).netloc == request.headers.get("host"):
        return None
    return "The request comes from another host. Behind a proxy that changes the Host header, set trusted_origins."
