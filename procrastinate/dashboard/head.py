"""The head of each page: the database, and whether it takes changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

from procrastinate.core.inspection import ServerState, load_server_state
from procrastinate.dashboard.calls import Calls, call
from procrastinate.dashboard.messages import Response
from procrastinate.dashboard.visit import Visit

FindPage: TypeAlias = "Callable[[Visit], Response | Calls[Response]]"


def with_head(visit: Visit, find_page: FindPage) -> Response | Calls[Response]:
    """Show a page that knows the database. It offers no action if this role cannot change jobs there.

    A page that asks the database nothing does not know it. If the database does not say, the head says nothing, and the
    panels of the page tell the problem.
    """
    page = find_page(visit)
    return page if isinstance(page, Response) else _with_head(visit, find_page)


def _with_head(visit: Visit, find_page: FindPage) -> Calls[Response]:
    loaded = yield from call(load_server_state)
    page = find_page(_knowing(visit, loaded.value) if loaded.value else visit)
    return page if isinstance(page, Response) else (yield from page)


def _knowing(visit: Visit, server: ServerState) -> Visit:
    visit = dataclasses.replace(visit, server=server)
    if server.takes_changes:
        return visit
    access = visit.request.access.without_changes()
    return dataclasses.replace(visit, request=dataclasses.replace(visit.request, access=access))
