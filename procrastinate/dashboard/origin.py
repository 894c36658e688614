"""Refuse requests that another site makes in the visitor's name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

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
    origin = _plain(request.headers.get("origin", ""))
    if origin and origin in map(_plain, trusted_origins):
        return None
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return None if site == "same-origin" else "The request comes from another site."
    if not origin:
        return "The request does not say where it comes from: it has neither Sec-Fetch-Site nor Origin."
    host = origin.partition("://")[2]
    if host and host == request.headers.get("host", "").lower():
        return None
    return "The request comes from another host. Behind a proxy that changes the Host header, set trusted_origins."


def read_origins(origins: Any) -> tuple[str, ...]:
    """Return trusted origins as a tuple.

    Raises
    ------
    TypeError, ValueError
        They are one text, which would be read letter by letter. Or one of them is no text or has no scheme, and no
        request could come from it.
    """
    if isinstance(origins, str):
        raise TypeError(f"trusted_origins takes a list of origins, as in [{origins!r}]")
    read = tuple(origins)
    for one in read:
        if not isinstance(one, str):
            raise TypeError(f"An origin is text, as in 'https://tools.example.com', not {one!r}")
        if "://" not in one:
            raise ValueError(f"An origin begins with its scheme, as in 'https://tools.example.com', unlike {one!r}")
    return read


def _plain(origin: str) -> str:
    """Return an origin as browsers send it: in lower case, and without a slash at the end."""
    return origin.lower().removesuffix("/")
