"""Requests and responses, independent of a web framework."""

from __future__ import annotations

import dataclasses
import http
import urllib.parse
from collections.abc import Mapping

from procrastinate.dashboard.access import Access

LONGEST_BODY = 1_000_000
"""Maximum size of the body of a request, in bytes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostField:
    """A hidden field that the web framework wants in each form, against forged requests."""

    name: str
    value: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """A request to the dashboard.

    Parameters
    ----------
    path:
        The path below the place where the dashboard is mounted: ``""``, ``"jobs"`` or ``"jobs/12"``.
    query:
        The query string of the address.
    headers:
        The headers, with names in lower case.
    access:
        What the visitor may do.
    client:
        Address of the visitor, for the record of actions.
    host_field:
        A field for forms.
    is_embedded:
        True if the framework wraps the page into its own.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    access: Access
    client: str = ""
    host_field: HostField | None = None
    is_embedded: bool = False

    @property
    def root(self) -> str:
        """The relative address of the dashboard's first page, as seen from this page."""
        return "../" * self.path.count("/") or "./"

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the address. Of several values, the last counts."""
        return _pairs(self.query)

    @property
    def form(self) -> dict[str, str]:
        """The fields of the form. Of several values, the last counts."""
        return _pairs(self._body_text)

    def all_of(self, name: str) -> list[str]:
        """Return all values of a field of the form."""
        pairs = urllib.parse.parse_qsl(self._body_text, keep_blank_values=True, errors="replace")
        return [value for key, value in pairs if key == name]

    @property
    def _body_text(self) -> str:
        return self.body.decode("ascii", errors="replace")


def _pairs(text: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(text, keep_blank_values=True, errors="replace"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """The parts of a page that a framework wraps into its own: paths of style sheet and scripts, and the rest."""

    title: str
    stylesheet: str
    scripts: tuple[str, ...]
    body: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Response:
    """A response of the dashboard. ``page`` is set instead of ``body`` if the framework wraps it."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    page: Page | None = None

    @property
    def reason(self) -> str:
        """The status line of HTTP without its protocol."""
        return f"{self.status} {http.HTTPStatus(self.status).phrase}"


CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
)


def html(body: str, *, status: int = 200, policy: str = CONTENT_POLICY) -> Response:
    """Return a page that runs no script and loads nothing from elsewhere."""
    headers = (*_PAGE_HEADERS, ("Content-Security-Policy", policy))
    return Response(status=status, headers=headers, body=body.encode("utf-8", "backslashreplace"))


def embedded(page: Page, *, status: int = 200) -> Response:
    """Return a page for a framework that wraps it. Its content policy is that of the framework."""
    return Response(status=status, headers=_PAGE_HEADERS, page=page)


def plain(text: str, status: int) -> Response:
    """Return a short text."""
    headers = (("Content-Type", "text/plain; charset=utf-8"), *_PAGE_HEADERS[1:])
    return Response(status=status, headers=headers, body=text.encode())


_OF_ADDRESSES = "%/?#[]@!$&'()*+,;=:~"
"""Characters that an address may have besides letters, digits and ``_.-``."""


def redirect(location: str) -> Response:
    """Return a redirect to a relative address, so that prefixes and proxies need no setting.

    The end of a line would end the header, and servers refuse other characters than those of Latin-1. Such characters
    are written in percent.
    """
    address = urllib.parse.quote(location, safe=_OF_ADDRESSES, errors="replace")
    return Response(status=303, headers=(("Location", address), ("Cache-Control", "no-store")))


def quoted_name(path: str) -> str:
    """Return the last part of a path as a part of an address."""
    return urllib.parse.quote(path.rpartition("/")[2], safe="", errors="replace")
