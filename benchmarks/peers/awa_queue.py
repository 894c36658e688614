"""What the two programs that drive Awa share."""

from __future__ import annotations

import dataclasses

import awa

QUEUE = "noop"


@dataclasses.dataclass
class Noop:
    """The arguments of a job."""

    number: int


def make_client(url: str) -> awa.AsyncClient:
    """A client. Awa wants the name of a host, and then takes the directory of the socket."""
    return awa.AsyncClient(url.replace("@/", "@localhost/"))
