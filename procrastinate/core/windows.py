"""When the next window of a rate opens. Promotions read it, and need no other statement of the rates."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from procrastinate.core.tables import windows


def first_window(after: sa.ColumnElement[Any] | None = None) -> sa.ScalarSelect[Any]:
    """Return the time at which the next window opens, one probe of an index, as a subquery."""
    query = sa.select(windows.c.opens_at).order_by(windows.c.opens_at).limit(1)
    return (query if after is None else query.where(windows.c.opens_at > after)).scalar_subquery()
