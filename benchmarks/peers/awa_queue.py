"""Common parts of the programs for Awa."""

from __future__ import annotations

import dataclasses

import awa

QUEUE = "noop"


@dataclasses.dataclass
class Noop:
    """The arguments of a job."""

    number: int


def make_client(url: str) -> awa.AsyncClient:
    """Return a client. Awa requires a host name, and then uses the directory of the socket."""
    return awa.AsyncClient(url.replace("@/", "@localhost/"))
