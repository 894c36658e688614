"""Turns: the keys of a fair limit get their slots one after the other.

A fair limit gives out no more slots than the workers can run jobs at once. A job that is not admitted yet can still be
overtaken by a key whose turn it is.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from procrastinate.core.share import LimitTerms
from procrastinate.core.tables import turns, workers

_NAME = sa.bindparam("name", type_=sa.Text())
# A worker of an older release does not say how many jobs it runs at once.
_CAPACITY = sa.select(sa.func.sum(sa.func.coalesce(workers.c.concurrency, 1)))


def within_capacity(connection: sa.Connection, terms: LimitTerms) -> LimitTerms:
    """Return the terms, those of a fair limit with the number of jobs that all workers can run at once."""
    if not terms.is_fair:
        return terms
    capacity = max(connection.execute(_CAPACITY).scalar_one() or 0, 1)
    return dataclasses.replace(terms, capacity=capacity)


_READ_TURN = sa.select(turns.c.last_key).where(turns.c.limit_name == _NAME)


def read_last_turn(connection: sa.Connection, name: str) -> str | None:
    """Return the key of a limit that got the last slot, or ``None`` if none has got one yet."""
    return connection.execute(_READ_TURN, {"name": name}).scalar_one_or_none()


_new = insert(turns).values(limit_name=_NAME, last_key=sa.bindparam("key", type_=sa.Text()))
_KEEP_TURN = _new.on_conflict_do_update(index_elements=["limit_name"], set_={"last_key": _new.excluded.last_key})


def keep_last_turn(connection: sa.Connection, name: str, key: str) -> None:
    """Note the key that got the last slot. Only an admission writes it, so no other transaction locks the row."""
    connection.execute(_KEEP_TURN, {"name": name, "key": key})
