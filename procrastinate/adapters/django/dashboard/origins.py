"""Trust the origins that Django trusts."""

from __future__ import annotations

import urllib.parse

from django.conf import settings
from django.http import HttpRequest
from django.utils.http import is_same_domain


def trusted_origins(request: HttpRequest) -> tuple[str, ...]:
    """Return the origin of the request if it is the site's own or one of ``CSRF_TRUSTED_ORIGINS``, or else nothing.

    The site's own is that of ``get_host()``, which may heed ``X-Forwarded-Host`` of a proxy.
    """
    origin = request.headers.get("Origin", "")
    if not origin:
        return ()
    is_own = origin == f"{request.scheme}://{request.get_host()}"
    return (origin,) if is_own or any(_includes(one, origin) for one in settings.CSRF_TRUSTED_ORIGINS) else ()


def _includes(trusted: str, origin: str) -> bool:
    """Return whether an entry of ``CSRF_TRUSTED_ORIGINS`` includes an origin, by Django's rule for wildcards."""
    if "*" not in trusted:
        return trusted == origin
    try:
        pattern, parts = urllib.parse.urlsplit(trusted), urllib.parse.urlsplit(origin)
    except ValueError:  # an origin that is no address
        return False
    return parts.scheme == pattern.scheme and is_same_domain(parts.netloc, pattern.netloc.lstrip("*"))
